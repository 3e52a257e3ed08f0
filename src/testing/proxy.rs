use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that are carried at a time.
const PIECE: usize = 65_536;
/// So often a second does a slow connection carry something.
const STEPS: u64 = 20;

/// A way to any TCP server that breaks on cue: in front of an SMTP server, of Postgres, of anything.
///
/// Each word from the test holds for the connections that are there and for those to come, until the
/// next one. The proxy and its connections end when it is dropped.
///
/// ```
/// use facteur::testing::{Script, SmtpServer, TcpProxy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = SmtpServer::start(Script::new()).await?;
/// let proxy = TcpProxy::start(server.addr()).await?;
///
/// let mut relay = server.relay(); // what a transport or a worker is given,
/// relay.port = proxy.addr().port(); // by way of the proxy
///
/// proxy.stall(); // a black hole: connections stay open and nothing comes of them
/// proxy.resume(); // all of it arrives after all
/// proxy.cut(); // RST to both ends
/// assert_eq!(proxy.open(), 0);
/// # Ok(())
/// # }
/// ```
pub struct TcpProxy {
    addr: SocketAddr,
    way: Arc<Way>,
    listening: JoinHandle<()>,
}

/// What the test and the connections share.
#[derive(Debug)]
struct Way {
    target: SocketAddr,
    order: watch::Sender<Order>,
    opened: AtomicUsize,
    open: AtomicUsize,
}

/// What the test said last. The counts are there because a connection may see only the last of
/// several orders, and must not miss that it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    mode: Mode,
    cuts: u64,
    half_opens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    Slow { bytes_per_second: u64 },
    Stall,
    HalfOpen,
    Cut,
}

impl TcpProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let order = watch::Sender::new(Order { mode: Mode::Forward, cuts: 0, half_opens: 0 });
        let way = Arc::new(Way { target, order, opened: AtomicUsize::new(0), open: AtomicUsize::new(0) });
        let listening = tokio::spawn(listen(listener, Arc::clone(&way)));
        Ok(Self { addr, way, listening })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Both sides of each connection are torn down (RST); who connects meets the same.
    pub fn cut(&self) {
        self.way.order.send_modify(|order| {
            order.mode = Mode::Cut;
            order.cuts += 1;
        });
    }

    /// Nothing is read or forwarded any more, in either direction, and everything stays open: a path
    /// that drops each packet. Who connects is accepted, and hears nothing. [`resume`](Self::resume)
    /// carries on where it stopped.
    pub fn stall(&self) {
        self.way.order.send_modify(|order| order.mode = Mode::Stall);
    }

    /// The side of the server is closed; the side of the client stays open and silent, and swallows
    /// what it is told: a peer that vanished. These connections do not come back.
    pub fn half_open(&self) {
        self.way.order.send_modify(|order| {
            order.mode = Mode::HalfOpen;
            order.half_opens += 1;
        });
    }

    /// So many bytes a second, at least one, for each connection and direction.
    pub fn slow(&self, bytes_per_second: u64) {
        let bytes_per_second = bytes_per_second.max(1);
        self.way.order.send_modify(|order| order.mode = Mode::Slow { bytes_per_second });
    }

    /// Forwards again: what was stalled or slow goes on, who connects reaches the server.
    pub fn resume(&self) {
        self.way.order.send_modify(|order| order.mode = Mode::Forward);
    }

    /// Connections that clients have made so far.
    pub fn opened(&self) -> usize {
        self.way.opened.load(Ordering::SeqCst)
    }

    /// Those that are open now. Of a stalled one it is not known whether its client is still there.
    pub fn open(&self) -> usize {
        self.way.open.load(Ordering::SeqCst)
    }
}

async fn listen(listener: TcpListener, way: Arc<Way>) {
    // Dropped with the listener's task: no connection outlives its proxy.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let orders = way.order.subscribe();
        let born = *orders.borrow();
        let counted = Counted::new(&way);
        connections.spawn(carry(client, Arc::clone(&way), orders, born, counted));
    }
}

/// One connection, for as long as it lasts.
async fn carry(
    mut client: TcpStream,
    way: Arc<Way>,
    mut orders: watch::Receiver<Order>,
    born: Order,
    _counted: Counted,
) {
    let (mut server, mut dialling) = (None, Box::pin(dial(way.target, orders.clone())));
    let end = tokio::select! {
        biased;
        end = struck(orders.clone(), born) => end,
        () = async {
            server = dialling.as_mut().await;
            forward(&mut client, server.as_mut(), &orders).await;
        } => End::Over,
    };
    match end {
        End::Over => {}
        End::HalfOpen => {
            drop((dialling, server));
            tokio::select! {
                _ = orders.wait_for(|order| order.cuts > born.cuts) => reset(&client),
                () = swallow(&mut client) => {}
            }
        }
        End::Cut => {
            reset(&client);
            if server.is_none() {
                // The server may know already of a connection that has just been made.
                server = dialling.now_or_never().flatten();
            }
            server.iter().for_each(reset);
        }
    }
}

enum End {
    Over,
    HalfOpen,
    Cut,
}

/// Resolves when an order has ended the connection that was born under `born`.
async fn struck(mut orders: watch::Receiver<Order>, born: Order) -> End {
    let ends = |order: &Order| match (
        order.cuts > born.cuts || order.mode == Mode::Cut,
        order.half_opens > born.half_opens,
    ) {
        (true, _) => Some(End::Cut),
        (false, true) => Some(End::HalfOpen),
        (false, false) => (order.mode == Mode::HalfOpen).then_some(End::HalfOpen),
    };
    match orders.wait_for(|order| ends(order).is_some()).await {
        Ok(order) => ends(&order).unwrap_or(End::Cut),
        Err(_) => End::Over,
    }
}

/// The server's side, once something may pass; none when there is no server.
async fn dial(target: SocketAddr, mut orders: watch::Receiver<Order>) -> Option<TcpStream> {
    flows(&mut orders).await?;
    TcpStream::connect(target).await.ok()
}

/// Carries both directions until both have ended; an end that breaks breaks the other.
async fn forward(client: &mut TcpStream, server: Option<&mut TcpStream>, orders: &watch::Receiver<Order>) {
    let Some(server) = server else { return reset(client) };
    // Pieces of a byte each must not wait for one another.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pump(from_client, to_server, orders.clone()),
            pump(from_server, to_client, orders.clone())
        )
    };
    if ended.is_err() {
        reset(client);
        reset(server);
    }
}

/// One direction, to its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: watch::Receiver<Order>,
) -> io::Result<()> {
    let mut space = vec![0; PIECE];
    while let Some(rate) = flows(&mut orders).await {
        let most = rate.map_or(PIECE as u64, |rate| (rate / STEPS).clamp(1, PIECE as u64)) as usize;
        let count = tokio::select! {
            biased;
            _ = orders.changed() => continue,
            count = from.read(&mut space[..most]) => count?,
        };
        if count == 0 {
            flows(&mut orders).await;
            return to.shutdown().await;
        }
        write(&mut to, &space[..count], &mut orders).await?;
        if let Some(rate) = rate {
            let pause = Duration::from_secs_f64(count as f64 / rate as f64);
            // The next order is heard at once, however slow this was.
            let _ = tokio::time::timeout(pause, orders.changed()).await;
        }
    }
    Ok(())
}

/// All of these bytes, but none while it is stalled.
async fn write(
    to: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    orders: &mut watch::Receiver<Order>,
) -> io::Result<()> {
    while !bytes.is_empty() && flows(orders).await.is_some() {
        tokio::select! {
            biased;
            _ = orders.changed() => {}
            count = to.write(bytes) => bytes = &bytes[count?..],
        }
    }
    Ok(())
}

/// Waits until something may pass: at which speed, if not at any. None when the proxy is gone.
async fn flows(orders: &mut watch::Receiver<Order>) -> Option<Option<u64>> {
    let order =
        orders.wait_for(|order| matches!(order.mode, Mode::Forward | Mode::Slow { .. })).await.ok()?;
    match order.mode {
        Mode::Slow { bytes_per_second } => Some(Some(bytes_per_second)),
        _ => Some(None),
    }
}

/// Until the client has gone.
async fn swallow(client: &mut TcpStream) {
    let mut space = vec![0; PIECE];
    while matches!(client.read(&mut space).await, Ok(1..)) {}
}

/// It ends in RST when it is dropped.
fn reset(stream: &TcpStream) {
    // Refused only for a socket that is gone already.
    let _ = stream.set_zero_linger();
}

/// A connection is open for as long as this lives.
struct Counted(Arc<Way>);

impl Counted {
    fn new(way: &Arc<Way>) -> Self {
        way.opened.fetch_add(1, Ordering::SeqCst);
        way.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(way))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl fmt::Debug for TcpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpProxy").field("addr", &self.addr).field("target", &self.way.target).finish()
    }
}
