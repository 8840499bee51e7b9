//! An echo server on tokio-tungstenite with 4 KiB buffers (its default read buffer of 128 KiB is for few connections).

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const BUFFER_BYTES: usize = 4096;

fn main() -> Result<()> {
    Ok(wsguard_bench::peer::run(serve)?)
}

async fn serve(stream: TcpStream) {
    // A peer that goes away is the ordinary end of a connection here.
    let _ = echo(stream).await;
}

async fn echo(stream: TcpStream) -> Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
