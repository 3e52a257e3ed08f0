use crate::delivery::Shutdown;

/// Ctrl-C, or SIGTERM: the first asks everything to end, the second ends it at once.
pub(super) fn on_signals() -> Shutdown {
    let shutdown = Shutdown::default();
    let passed_on = shutdown.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("stopping; once more stops at once");
        passed_on.begin.cancel();
        signal().await;
        tracing::warn!("stopping at once");
        passed_on.now.cancel();
        signal().await;
        std::process::exit(1);
    });
    shutdown
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return ctrl_c().await };
    tokio::select! {
        _ = terminate.recv() => {}
        () = ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    ctrl_c().await;
}

async fn ctrl_c() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "Ctrl-C cannot be caught; stop Facteur with kill");
        std::future::pending::<()>().await;
    }
}
