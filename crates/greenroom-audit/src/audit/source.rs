//! Connects to an address where perhaps nobody listens yet, and never to itself.
//!
//! A client of a port that nobody listens at may be given that very port for its own end, where it is one of those that the
//! kernel gives out; then it is connected to itself (RFC 9293, section 3.5, simultaneous open). It would
//! take itself for a server, and keep the port from CMD. Such a connection is reset at once, which leaves
//! nothing behind at the port, and counts as refused: nobody listened.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Connects.
///
/// # Errors
/// When nobody takes it; `ConnectionRefused` where it was only the client itself.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    not_itself(TcpStream::connect(address).await?)
}

fn not_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(stream);
    }
    stream.set_zero_linger()?;
    Err(io::ErrorKind::ConnectionRefused.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    #[tokio::test]
    async fn who_is_connected_to_itself_met_nobody_and_leaves_the_port_free() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), own, "the kernel does that");
        let error = not_itself(stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // Without SO_REUSEADDR, as a server may do it: what waits to be forgotten would keep it away.
        let server = TcpSocket::new_v4().unwrap();
        server.bind(own).unwrap();
        let server = server.listen(1).unwrap();
        let stream = connect(own).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), server.local_addr().unwrap());
    }
}
