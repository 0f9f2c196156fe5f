//! Ports, chosen by the kernel and kept from everyone else until they are used.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::TcpSocket;

/// A port on loopback that is bound but not listened on: connecting to it is refused, and nobody else gets it.
///
/// Envoy's listeners share it (both sides set `SO_REUSEPORT`), so for them it is held as long as they run. Any other
/// server needs it let go of first.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Asks the kernel for one.
    pub fn any() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// `127.0.0.1` and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets go of the port and says which it was.
    pub fn release(self) -> SocketAddr {
        self.address
    }
}
