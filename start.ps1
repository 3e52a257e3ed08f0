# Builds Facteur and runs it with all it needs on this machine: Postgres, inbox, API, worker.
# Arguments go to `facteur dev`. Ctrl-C ends everything.
# For Windows PowerShell 5.1 and PowerShell 7. Where scripts are not allowed:
#     powershell -ExecutionPolicy Bypass -File start.ps1

# Not 'Stop': PowerShell 5.1 takes each line that cargo writes to standard error for an error.
$ErrorActionPreference = 'Continue'

function Fail([string] $Message) {
    [Console]::Error.WriteLine("start: $Message")
    exit 1
}

$Project = Split-Path -Parent $MyInvocation.MyCommand.Path

# rustup puts cargo there, and only a new terminal has it in its PATH.
if (-not (Get-Command cargo -ErrorAction SilentlyContinue)) {
    $CargoHome = $env:CARGO_HOME
    if (-not $CargoHome) { $CargoHome = Join-Path $HOME '.cargo' }
    $env:PATH = (Join-Path $CargoHome 'bin') + [IO.Path]::PathSeparator + $env:PATH
}
if (-not (Get-Command cargo -ErrorAction SilentlyContinue)) {
    Fail "Rust is not installed. Install it, then open a new terminal:
    winget install Rustlang.Rustup        (or https://rustup.rs)"
}

$Needed = $null
foreach ($Line in Get-Content (Join-Path $Project 'Cargo.toml')) {
    if ($Line -match '^rust-version = "([0-9.]+)"') { $Needed = $Matches[1] }
}
$Found = $null
Push-Location $Project
if ("$(rustc --version)" -match '^rustc ([0-9]+\.[0-9]+)') { $Found = $Matches[1] }
Pop-Location
if (-not $Found) {
    Fail "cargo is here and rustc does not run. Give rustup a toolchain: rustup default stable"
}
if ($Needed -and ([version] $Found -lt [version] $Needed)) {
    Fail "Rust $Found is too old: Facteur needs $Needed. Bring it up to date with: rustup update"
}

# On Windows, Rust links with Microsoft's tools; rustup offers them and can be told not to.
$OnWindows = ($env:OS -eq 'Windows_NT')
if ($OnWindows) {
    $VsWhere = Join-Path ${env:ProgramFiles(x86)} 'Microsoft Visual Studio\Installer\vswhere.exe'
    $Tools = $null
    if (Test-Path $VsWhere) {
        $Tools = & $VsWhere -latest -products '*' -requires 'Microsoft.VisualStudio.Component.VC.Tools.x86.x64' -property installationPath
        if (-not $Tools) {
            $Tools = & $VsWhere -latest -products '*' -requires 'Microsoft.VisualStudio.Component.VC.Tools.ARM64' -property installationPath
        }
    }
    $HostLine = "$(rustc -vV)"
    if (($HostLine -match 'windows-msvc') -and (-not $Tools) -and (-not (Get-Command cl.exe -ErrorAction SilentlyContinue))) {
        Fail 'there is no C compiler: Rust on Windows needs the Visual Studio Build Tools. Install them:
    winget install Microsoft.VisualStudio.2022.BuildTools --override "--wait --passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"'
    }
}

$Build = $env:CARGO_TARGET_DIR
if (-not $Build) { $Build = Join-Path $Project 'target' }
if (-not [IO.Path]::IsPathRooted($Build)) { $Build = Join-Path (Get-Location).Path $Build }
try {
    New-Item -ItemType Directory -Force -Path $Build -ErrorAction Stop | Out-Null
    $Probe = Join-Path $Build '.can-write'
    Set-Content -Path $Probe -Value '' -ErrorAction Stop
    Remove-Item -Path $Probe -ErrorAction Stop
} catch {
    Fail "cannot write to $Build, where the build goes. Give this user the right to, or name another folder in CARGO_TARGET_DIR."
}

$Program = Join-Path (Join-Path $Build 'debug') 'facteur'
if ($OnWindows) { $Program = $Program + '.exe' }
if (-not (Test-Path $Program)) {
    Write-Host 'Building Facteur. The first build takes a few minutes, the next ones seconds.'
}
cargo build --locked --bin facteur --manifest-path (Join-Path $Project 'Cargo.toml') --target-dir $Build
if ($LASTEXITCODE -ne 0) {
    Fail 'the build failed; what cargo says is above'
}

# .env, secrets and .facteur are the project's, wherever this was called from.
$Status = 1
Push-Location $Project
try {
    & $Program dev @args
    $Status = $LASTEXITCODE
} finally {
    Pop-Location
}
exit $Status
