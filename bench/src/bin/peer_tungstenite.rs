//! An echo server on tokio-tungstenite: `peer-tungstenite defaults`, or with buffers of so many bytes (its default read
//! buffer of 128 KiB is for few connections).

use std::env;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

fn main() -> Result<()> {
    let mut config = WebSocketConfig::default();
    if let Some(bytes) = env::args().nth(1).and_then(|argument| argument.parse().ok()) {
        config = config.read_buffer_size(bytes).write_buffer_size(bytes);
    }
    Ok(wsguard_bench::peer::run(move |stream| serve(stream, config))?)
}

async fn serve(stream: TcpStream, config: WebSocketConfig) {
    // A peer that goes away is the ordinary end of a connection here.
    let _ = echo(stream, config).await;
}

async fn echo(stream: TcpStream, config: WebSocketConfig) -> Result<()> {
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
