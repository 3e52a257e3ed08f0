//! The proxy that breaks on cue: what each end sees.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use facteur::testing::TcpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A listener, and a proxy before it.
async fn behind_proxy() -> (TcpListener, TcpProxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpProxy::start(listener.local_addr().unwrap()).await.unwrap();
    (listener, proxy)
}

/// Both ends of a connection through the proxy.
async fn ends(listener: &TcpListener, proxy: &TcpProxy) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (server, _) = soon(listener.accept()).await.unwrap();
    (client, server)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("within ten seconds")
}

async fn heard(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    soon(stream.read_exact(&mut all)).await.unwrap();
    all
}

/// Nothing comes: what would prove the opposite takes far less time.
async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await.is_err()
}

async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn everything_passes_in_both_directions_and_each_end_closes_by_itself() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    assert_eq!((proxy.opened(), proxy.open()), (1, 1));
    let much = vec![7; 3_000_000];
    let (sent, received) = tokio::join!(client.write_all(&much), heard(&mut server, much.len()));
    sent.unwrap();
    assert!(received == much);
    client.shutdown().await.unwrap();
    assert_eq!(soon(server.read(&mut [0; 1])).await.unwrap(), 0, "the client's end has passed");
    server.write_all(b"still here").await.unwrap();
    assert_eq!(heard(&mut client, 10).await, b"still here");
    drop(server);
    assert_eq!(soon(client.read(&mut [0; 1])).await.unwrap(), 0);
    until(|| proxy.open() == 0).await;
    assert_eq!(proxy.opened(), 1);
}

#[tokio::test]
async fn a_cut_resets_both_ends_and_who_comes_later() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    proxy.cut();
    for end in [&mut client, &mut server] {
        let error = soon(end.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let late = TcpStream::connect(proxy.addr()).await;
    let refused = match late {
        Ok(mut late) => soon(late.read(&mut [0; 1])).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    until(|| proxy.open() == 0).await;
    proxy.resume();
    let (mut client, mut server) = ends(&listener, &proxy).await;
    client.write_all(b"again").await.unwrap();
    assert_eq!(heard(&mut server, 5).await, b"again");
}

#[tokio::test]
async fn a_cut_is_not_missed_by_who_looks_away() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, _server) = ends(&listener, &proxy).await;
    // No task runs between the two.
    proxy.cut();
    proxy.resume();
    assert_eq!(soon(client.read(&mut [0; 1])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stall_holds_everything_back_until_it_ends() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    proxy.stall();
    client.write_all(b"to the server").await.unwrap();
    server.write_all(b"to the client").await.unwrap();
    let mut late = soon(TcpStream::connect(proxy.addr())).await.unwrap();
    late.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut server).await && is_silent(&mut client).await && is_silent(&mut late).await);
    assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "the server hears nobody");
    assert_eq!(proxy.open(), 2);
    proxy.resume();
    assert_eq!(heard(&mut server, 13).await, b"to the server");
    assert_eq!(heard(&mut client, 13).await, b"to the client");
    let (mut second, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(heard(&mut second, 4).await, b"late");
}

#[tokio::test]
async fn a_half_open_connection_has_lost_its_server_and_does_not_know() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    proxy.half_open();
    assert_eq!(soon(server.read(&mut [0; 1])).await.unwrap(), 0, "the server's side is closed");
    soon(client.write_all(&vec![0; 20_000_000])).await.unwrap();
    assert!(is_silent(&mut client).await);
    let mut late = soon(TcpStream::connect(proxy.addr())).await.unwrap();
    late.write_all(b"anybody?").await.unwrap();
    assert!(is_silent(&mut late).await);
    proxy.resume();
    assert!(is_silent(&mut client).await, "it does not come back");
    let (mut third, mut server) = ends(&listener, &proxy).await;
    third.write_all(b"new").await.unwrap();
    assert_eq!(heard(&mut server, 3).await, b"new");
    drop((client, late));
    until(|| proxy.open() == 1).await;
    proxy.cut();
    assert!(soon(third.read(&mut [0; 1])).await.is_err());
}

#[tokio::test]
async fn slow_is_so_many_bytes_a_second() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    proxy.slow(100_000);
    client.write_all(&vec![0; 50_000]).await.unwrap();
    let begun = Instant::now();
    heard(&mut server, 50_000).await;
    // The last piece does not wait, and timers come late rather than early.
    let took = begun.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
    proxy.slow(1);
    client.write_all(b"abc").await.unwrap();
    heard(&mut server, 1).await;
    let begun = Instant::now();
    proxy.resume();
    assert_eq!(heard(&mut server, 2).await, b"bc");
    assert!(begun.elapsed() < Duration::from_millis(500), "it goes on at once");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    let (listener, proxy) = behind_proxy().await;
    drop(listener);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(soon(client.read(&mut [0; 1])).await.is_err());
    until(|| proxy.open() == 0).await;
}

#[tokio::test]
async fn nothing_outlives_the_proxy() {
    let (listener, proxy) = behind_proxy().await;
    let (mut client, mut server) = ends(&listener, &proxy).await;
    drop(proxy);
    assert!(matches!(soon(client.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    assert!(matches!(soon(server.read(&mut [0; 1])).await, Ok(0) | Err(_)));
}
