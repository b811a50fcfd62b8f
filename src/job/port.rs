//! A port that strangers can reach: how many connections they may hold, and how long each may say nothing.
//!
//! One that is over the number is closed at once. When the process has no descriptor left for one more, accepting waits a little: it
//! must not spin.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use crate::env::Env;
use crate::error::{Error, Result};

/// How long a connection may take to its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening port.
pub(super) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
    env: Env,
}

impl Port {
    /// Opens a port for so many connections at once. `operation`: what for.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) async fn bind(
        operation: &'static str,
        listen: SocketAddr,
        max_connections: usize,
        env: Env,
    ) -> Result<Self> {
        let fail = |error| {
            let failed = Error::io(operation, listen, error);
            failed.with_advice("name another port, or port 0 for any that is free")
        };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, places: Arc::new(Semaphore::new(max_connections)), env })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    async fn next(&self) -> (Connection, SocketAddr) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(port = %self.address, %error, "a connection could not be accepted");
                    self.env.runtime.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                tracing::warn!(port = %self.address, %peer, "too many connections: one is closed");
                continue;
            };
            // Small messages go at once. A connection that is broken already shows that when it is read.
            let _ = stream.set_nodelay(true);
            let silence = self.env.runtime.clone();
            let silence = Some(async move { silence.sleep(FIRST_BYTE_TIMEOUT).await }.boxed());
            return (Connection { stream, silence, _place: place }, peer);
        }
    }

    /// All connections, for tonic.
    pub(super) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |port| async move {
            let (connection, _) = port.next().await;
            Some((Ok(connection), port))
        })
    }
}

impl axum::serve::Listener for Port {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection that has a place of its port's as long as it lasts.
pub(super) struct Connection {
    stream: TcpStream,
    /// Until it has said something: when it has been silent for too long.
    silence: Option<BoxFuture<'static, ()>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let is_over = match (&read, &mut this.silence) {
            (Poll::Pending, Some(silence)) => silence.poll_unpin(context).is_ready(),
            _ => false,
        };
        if is_over || read.is_ready() {
            this.silence = None;
        }
        match is_over {
            true => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing"))),
            false => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn port(max_connections: usize) -> Port {
        Port::bind("test", "127.0.0.1:0".parse().unwrap(), max_connections, Env::system().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn one_more_than_there_are_places_is_closed_and_a_place_is_free_again_when_one_goes() {
        let port = port(1).await;
        let _first = TcpStream::connect(port.address()).await.unwrap();
        let (held, _) = port.next().await;
        let mut second = TcpStream::connect(port.address()).await.unwrap();
        let closed = async { second.read(&mut [0; 1]).await };
        tokio::select! {
            read = closed => assert!(matches!(read, Ok(0) | Err(_)), "{read:?}"),
            _ = port.next() => panic!("there is no place for it"),
        }
        drop(held);
        let _third = TcpStream::connect(port.address()).await.unwrap();
        port.next().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_broken_off_and_one_that_has_said_something_is_not() {
        let port = port(2).await;
        let silent = TcpStream::connect(port.address()).await.unwrap();
        let (mut connection, _) = port.next().await;
        let error = connection.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(silent);
        let mut talks = TcpStream::connect(port.address()).await.unwrap();
        let (mut connection, _) = port.next().await;
        tokio::io::AsyncWriteExt::write_all(&mut talks, b"a").await.unwrap();
        connection.read_exact(&mut [0; 1]).await.unwrap();
        let pause = tokio::time::timeout(FIRST_BYTE_TIMEOUT * 3, connection.read(&mut [0; 1])).await;
        assert!(pause.is_err(), "it may be silent now");
    }
}
