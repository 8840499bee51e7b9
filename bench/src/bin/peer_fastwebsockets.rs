//! An echo server on fastwebsockets, as its `examples/echo_server.rs` is written: hyper for the handshake, one task per
//! connection. One step goes beyond the example, so that the yardstick is at its fastest (0 to 3 % less CPU): the bare
//! socket is taken back out of hyper.

use anyhow::{Result, anyhow};
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

fn main() -> Result<()> {
    Ok(wsguard_bench::peer::run(serve)?)
}

async fn serve(stream: TcpStream) {
    // A peer that goes away is the ordinary end of a connection here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(open)).with_upgrades().await;
}

async fn open(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    tokio::spawn(tokio::task::unconstrained(echo(upgraded)));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<()> {
    let stream = bare_socket(upgraded.await?.into_inner().into_inner())?;
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(stream, Role::Server));
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

fn bare_socket(upgraded: Upgraded) -> Result<TcpStream> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| anyhow!("hyper holds another stream"))?;
    // The generator sends its first frame after it has read the 101, so hyper has read nothing ahead.
    anyhow::ensure!(parts.read_buf.is_empty(), "a frame came before the handshake was answered");
    Ok(parts.io.into_inner())
}
