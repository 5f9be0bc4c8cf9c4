//! Raw bytes of a connection: request line, headers and chunks through hyper and the public router, HTTP/1.1 and HTTP/2.

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Feed;
use super::http::{Subject, clv_seeds};

/// Room of the pipe between client and server.
const PIPE_BYTES: usize = 64 * 1024;

/// Feeds all that a client sends before it hangs up.
pub fn connection() -> Feed {
    let subject = Subject::open();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).max_buf_size(32 * 1024).max_headers(64);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100).max_header_list_size(32 * 1024);
    Box::new(move |input| {
        let service = TowerToHyperService::new(subject.app.public.router().clone());
        let answers = subject.runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
            let serving = builder.serve_connection(TokioIo::new(server), service);
            let asking = async {
                // A server that hung up reads no more.
                let _ = client.write_all(input).await;
                let _ = client.shutdown().await;
                let mut answers = Vec::new();
                let _ = client.read_to_end(&mut answers).await;
                answers
            };
            // Boxed: what hyper keeps for a connection is large.
            let (_, answers) = tokio::join!(Box::pin(serving), asking);
            answers
        });
        let text = String::from_utf8_lossy(&answers);
        // A status stands at the beginning of a line, and never inside a JSON string.
        assert!(!text.lines().any(|line| line.starts_with("HTTP/1.1 5")), "{text}");
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = clv_seeds()
        .iter()
        .take(2)
        .map(|body| {
            let head = format!(
                "POST /v1/predict/clv HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-request-id: a-1\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        })
        .collect();
    seeds.push(seeds.concat());
    seeds.push(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec());
    seeds.push(
        b"POST /v1/route/tier HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n\
        15\r\n{\"customerId\":\"CUST-1\r\n2\r\n\"}\r\n0\r\n\r\n"
            .to_vec(),
    );
    // HTTP/2 with prior knowledge: preface, empty SETTINGS, HEADERS of a GET (static table only), PING.
    let headers = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    let mut http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    http2.extend([0, 0, headers.len() as u8, 1, 5, 0, 0, 0, 1]);
    http2.extend(headers);
    http2.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    seeds.push(http2);
    seeds
}
