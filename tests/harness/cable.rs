//! A cable between two processes that can go wrong: a TCP proxy that a test cuts, mends, slows down or lets go silent.
//!
//! It sees bytes and connections, never requests. What it does to a connection it does to all of them, and to those that
//! come while it lasts; a connection that was cut or went silent stays so when the cable is mended, as in the world.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::server::Server;

/// Pieces that are on their way in one direction; more wait at their sender's.
const PIECES: usize = 64;

/// What a cable does to the bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It passes them on.
    Whole,
    /// Every connection is reset, and whoever connects is reset too.
    Cut,
    /// Connections are taken and kept, and nothing passes any more, in either direction.
    Silent,
    /// Everything takes this much longer, in each direction.
    Late(Duration),
    /// What goes back to the caller goes a byte a second.
    Trickling,
}

/// The cable; gone with all its connections when it is dropped.
#[derive(Debug)]
pub struct Cable {
    server: Server,
    condition: watch::Sender<Condition>,
}

impl Cable {
    /// A whole one, to this address.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let condition = watch::Sender::new(Condition::Whole);
        let known = condition.clone();
        let server = Server::tcp(move |caller| {
            let known = known.subscribe();
            async move {
                // Whatever ends a connection ends it for both sides.
                let _ = carry(caller, target, known).await;
            }
        })
        .await?;
        Ok(Self { server, condition })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it does from now on.
    pub fn becomes(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

async fn carry(
    mut caller: TcpStream,
    target: SocketAddr,
    mut condition: watch::Receiver<Condition>,
) -> io::Result<()> {
    let present = *condition.borrow_and_update();
    match present {
        Condition::Cut => return caller.set_zero_linger(),
        Condition::Silent => return std::future::pending().await,
        _ => {}
    }
    let (mut cut, mut silent) = (condition.clone(), condition.clone());
    let mut called = TcpStream::connect(target).await?;
    called.set_nodelay(true)?;
    {
        let (from_caller, to_caller) = caller.split();
        let (from_called, to_called) = called.split();
        let there = pass(from_caller, to_called, condition.clone(), false);
        let back = pass(from_called, to_caller, condition, true);
        tokio::select! {
            passed = async { tokio::try_join!(there, back) } => return passed.map(drop),
            () = is(&mut cut, Condition::Cut) => {}
            () = is(&mut silent, Condition::Silent) => return std::future::pending().await,
        }
    }
    // Lingering for no time turns the close into a reset.
    caller.set_zero_linger()?;
    called.set_zero_linger()
}

async fn is(condition: &mut watch::Receiver<Condition>, wanted: Condition) {
    // The cable itself is the sender, and ends every connection when it goes.
    let _ = condition.wait_for(|present| *present == wanted).await;
}

/// Passes on what comes, each piece when its time has come, and then the end.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut condition: watch::Receiver<Condition>,
    is_answer: bool,
) -> io::Result<()> {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let read = async move {
        let mut buffer = BytesMut::new();
        while from.read_buf(&mut buffer).await? > 0 {
            if pieces.send((Instant::now(), buffer.split().freeze())).await.is_err() {
                break;
            }
        }
        io::Result::Ok(())
    };
    let write = async {
        while let Some((came_at, piece)) = under_way.recv().await {
            write_piece(&mut to, (came_at, piece), &mut condition, is_answer).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

async fn write_piece(
    to: &mut WriteHalf<'_>,
    (came_at, mut piece): (Instant, Bytes),
    condition: &mut watch::Receiver<Condition>,
    is_answer: bool,
) -> io::Result<()> {
    while !piece.is_empty() {
        let present = *condition.borrow_and_update();
        match present {
            Condition::Trickling if is_answer => {
                // A change ends the wait as well.
                let _ = tokio::time::timeout(Duration::from_secs(1), condition.changed()).await;
                to.write_all(&piece.split_to(1)).await?;
            }
            Condition::Late(by) => {
                tokio::time::sleep_until(came_at + by).await;
                to.write_all(&std::mem::take(&mut piece)).await?;
            }
            _ => to.write_all(&std::mem::take(&mut piece)).await?,
        }
    }
    Ok(())
}
