//! An address that leads to a database and can be led elsewhere, as a virtual address or a proxy is.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Forwards connections until it is dropped.
pub struct Forwarder {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The port that new connections are led to.
    target: Mutex<u16>,
    /// Each piece that is forwarded waits so long, in milliseconds.
    delay: AtomicU64,
    connections: Mutex<Vec<Arc<Connection>>>,
    ended: AtomicBool,
}

/// A connection and the one that it is forwarded to.
struct Connection {
    ends: [TcpStream; 2],
    /// Forwards nothing more and says nothing of it.
    silent: AtomicBool,
}

impl Forwarder {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared { target: Mutex::new(target), ..Shared::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                accepting.forward(stream);
            }
        });
        Self { port, shared }
    }

    /// Leads new connections there. Those that are open stay where they are.
    pub fn lead_to(&self, target: u16) {
        *self.shared.target.lock().expect("no panic") = target;
    }

    /// Lets each piece wait for so long.
    pub fn delay(&self, by: Duration) {
        self.shared.delay.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Open connections forward nothing any more, as when a machine has lost its power: nobody is told.
    pub fn fall_silent(&self) {
        for connection in self.shared.connections.lock().expect("no panic").iter() {
            connection.silent.store(true, Ordering::SeqCst);
        }
    }

    /// Ends the connections that are open.
    pub fn cut(&self) {
        for connection in self.shared.connections.lock().expect("no panic").drain(..) {
            connection.end();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes it up to see that.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn forward(self: &Arc<Self>, from: TcpStream) {
        let target = *self.target.lock().expect("no panic");
        // As a refused connection looks through a proxy.
        let Ok(to) = TcpStream::connect(("127.0.0.1", target)) else { return };
        for stream in [&from, &to] {
            stream.set_nodelay(true).expect("a socket");
        }
        let connection = Arc::new(Connection { ends: [from, to], silent: AtomicBool::new(false) });
        self.connections.lock().expect("no panic").push(Arc::clone(&connection));
        for way in [[0, 1], [1, 0]] {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            std::thread::spawn(move || connection.copy(way, &shared.delay));
        }
    }
}

impl Connection {
    fn copy(&self, [from, to]: [usize; 2], delay: &AtomicU64) {
        let (mut from, mut to) = (&self.ends[from], &self.ends[to]);
        let mut piece = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut piece) {
            if self.silent.load(Ordering::SeqCst) {
                // Not even the end is passed on.
                if read == 0 {
                    return;
                }
                continue;
            }
            std::thread::sleep(Duration::from_millis(delay.load(Ordering::SeqCst)));
            if read == 0 || to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        self.end();
    }

    fn end(&self) {
        for end in &self.ends {
            // Fails when it has ended already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
