# Runs Facteur in containers, for development: API, worker, Postgres, and Maildev to look at the mail.
#
#   ./docker.ps1              builds, starts, waits until all of it is well, and says what to do next
#   ./docker.ps1 down         stops it; the mails in Postgres stay. ./docker.ps1 down -v throws them away
#   ./docker.ps1 logs [-f]    what it says; every other word goes to docker compose as it is
#
# For Windows PowerShell 5.1 and PowerShell 7. Where scripts are not allowed:
#     powershell -ExecutionPolicy Bypass -File docker.ps1

# Not 'Stop': PowerShell 5.1 takes each line that docker writes to standard error for an error.
$ErrorActionPreference = 'Continue'

function Fail([string] $Message) {
    [Console]::Error.WriteLine("docker: $Message")
    exit 1
}

if (-not (Get-Command docker -CommandType Application -ErrorAction SilentlyContinue)) {
    Fail 'Docker is not installed. Get it from https://docs.docker.com/get-docker/
    Without Docker: ./start.ps1 runs all of it on this machine.'
}
$Program = (Get-Command docker -CommandType Application | Select-Object -First 1).Source
& $Program compose version *> $null
if ($LASTEXITCODE -ne 0) { Fail 'Docker is here and Compose is not. Bring Docker Desktop up to date.' }
& $Program info *> $null
if ($LASTEXITCODE -ne 0) { Fail 'the Docker engine is not running. Open Docker Desktop, and wait until it says that it runs.' }

$Status = 1
Push-Location (Split-Path -Parent $MyInvocation.MyCommand.Path)
try {
    $File = @('compose', '-f', 'docker-compose.dev.yml')
    if ($args.Count -gt 0 -and $args[0] -ne 'up') {
        & $Program @File @args
        $Status = $LASTEXITCODE
    } else {
        # --wait is over when the health checks say that all of it is well.
        & $Program @File up -d --build --wait
        $Status = $LASTEXITCODE
        if ($Status -ne 0) {
            [Console]::Error.WriteLine('docker: it did not start; what Docker says is above.
    If a port is taken: $env:HTTP_PORT = 8100; $env:INBOX_HTTP_PORT = 1180; $env:INBOX_SMTP_PORT = 1125; ./docker.ps1')
        } else {
            $Api = if ($env:HTTP_PORT) { $env:HTTP_PORT } else { 8000 }
            $Inbox = if ($env:INBOX_HTTP_PORT) { $env:INBOX_HTTP_PORT } else { 1080 }
            $Smtp = if ($env:INBOX_SMTP_PORT) { $env:INBOX_SMTP_PORT } else { 1025 }
            Write-Host @"

Facteur is ready, in containers.

  API     http://localhost:$Api
  Inbox   http://localhost:$Inbox
  SMTP    smtp://localhost:$Smtp

Send a first mail, then look at the inbox:

  Invoke-WebRequest -Uri "http://localhost:$Api/api/test-email?to=test@local.test" -Method POST

./docker.ps1 logs -f shows what it says, ./docker.ps1 down ends it all.

"@
        }
    }
} finally {
    Pop-Location
}
exit $Status
