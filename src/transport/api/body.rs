use std::io;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::oneshot;

/// Bytes that are handed to the connection at once.
const PIECE: usize = 16_384;

/// The other end of a body: says when only its last piece is left, and lets that out.
pub(super) struct LastPiece {
    /// Resolves when all but the last piece has been taken by an open connection.
    pub(super) awaited: oneshot::Receiver<()>,
    /// Sending lets the last piece out; dropping it breaks the request off.
    pub(super) release: oneshot::Sender<()>,
}

struct Rest {
    body: Vec<u8>,
    at: usize,
    hold: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

/// A body in pieces, whose last one waits to be let out: until then, whoever got the rest has less than
/// the `Content-Length` promised, and no request.
pub(super) fn held_back(
    body: Vec<u8>,
) -> (impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static, LastPiece) {
    let (await_sender, awaited) = oneshot::channel();
    let (release, released) = oneshot::channel();
    let rest = Rest { body, at: 0, hold: Some((await_sender, released)) };
    (unfold(rest, next), LastPiece { awaited, release })
}

async fn next(mut rest: Rest) -> Option<(io::Result<Vec<u8>>, Rest)> {
    let end = rest.body.len();
    if end - rest.at > PIECE {
        let piece = rest.body[rest.at..rest.at + PIECE].to_vec();
        rest.at += PIECE;
        return Some((Ok(piece), rest));
    }
    // Once it has left, there is no more.
    let (waiting, released) = rest.hold.take()?;
    // Whoever does not listen any more does not let it out either.
    let _ = waiting.send(());
    let piece = match released.await {
        Ok(()) => Ok(rest.body[rest.at..].to_vec()),
        Err(_) => Err(io::Error::other("stopped before the last byte")),
    };
    Some((piece, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn all_but_the_last_piece_leaves_by_itself() {
        let body: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        let (pieces, last) = held_back(body.clone());
        let mut pieces = Box::pin(pieces);
        let mut got = Vec::new();
        for _ in 0..2 {
            got.extend(pieces.next().await.unwrap().unwrap());
        }
        assert_eq!(got.len(), 2 * PIECE);
        assert!(futures_util::poll!(pieces.next()).is_pending());
        last.awaited.await.unwrap();
        last.release.send(()).unwrap();
        got.extend(pieces.next().await.unwrap().unwrap());
        assert_eq!(got, body);
        assert!(pieces.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_let_out_breaks_the_request_off() {
        let (pieces, last) = held_back(b"small".to_vec());
        let mut pieces = Box::pin(pieces);
        assert!(futures_util::poll!(pieces.next()).is_pending());
        drop(last);
        assert!(pieces.next().await.unwrap().is_err());
        assert!(pieces.next().await.is_none());
    }
}
