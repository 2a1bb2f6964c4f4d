//! So many requests a second, whether they are answered or not. One thread, without locks or timers that
//! count whole milliseconds: it sleeps until the next request is due or an answer comes.
//!
//! A request that finds no free connection gets a new one, so a slow server does not slow the sending down,
//! and its latency counts from when it was written. How long after it was due that was is told too: it is
//! the client's own disturbance, and no server's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};

/// How fast to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// So many a second.
    pub(crate) a_second: f64,
    /// But never more of them at once.
    pub(crate) at_once: usize,
}

impl Pace {
    /// So many a second, come what may: a server that keeps 15,000 of them waiting does not take the rate.
    pub(crate) fn of(a_second: f64) -> Self {
        Self { a_second, at_once: 15_000 }
    }

    /// As fast as they are answered, over so many connections.
    pub(crate) fn over(at_once: usize) -> Self {
        Self { a_second: f64::INFINITY, at_once }
    }
}

/// How long all of them may stay without an answer.
const SILENCE: Duration = Duration::from_secs(10);

/// How far it is, to be read by another thread.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    answered: AtomicU64,
    waiting: AtomicU64,
}

impl Progress {
    /// How many requests were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many wait for their answers.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What came of it: milliseconds, sorted.
#[derive(Debug)]
pub(crate) struct Took {
    /// From when a request was written until its answer was read.
    pub(crate) latency_ms: Vec<f64>,
    /// From when it was due until it was written.
    pub(crate) late_ms: Vec<f64>,
}

/// Sends requests, each once, and waits for all of their answers.
///
/// # Errors
/// If any is not answered with a 200, or if for long there is no answer at all.
pub(crate) fn send(address: SocketAddr, requests: &[Vec<u8>], pace: Pace, progress: &Progress) -> Result<Took> {
    // Else the kernel has the thread sleep 50 µs longer than asked.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut client =
        Client { address, epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, all: Vec::new(), free: Vec::new() };
    let (mut latency_ms, mut late_ms) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
    let mut events = Vec::with_capacity(256);
    let mut requests = requests.iter().enumerate().peekable();
    let began = Instant::now();
    let due_of = |n: usize| began + Duration::from_secs_f64(n as f64 / pace.a_second);
    loop {
        let waiting = loop {
            let waiting = client.all.len() - client.free.len();
            match requests.next_if(|(n, _)| waiting < pace.at_once && due_of(*n) <= Instant::now()) {
                Some((n, request)) => {
                    late_ms.push(client.write(request)?.duration_since(due_of(n)).as_secs_f64() * 1000.0);
                }
                None => break waiting,
            }
        };
        progress.waiting.store(waiting as u64, Ordering::Relaxed);
        let sleep = match requests.peek() {
            Some((n, _)) if waiting < pace.at_once => due_of(*n).saturating_duration_since(Instant::now()),
            None if waiting == 0 => break,
            _ => SILENCE,
        };
        let timeout = Timespec { tv_sec: sleep.as_secs() as i64, tv_nsec: sleep.subsec_nanos().into() };
        events.clear();
        match epoll::wait(&client.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        ensure!(!events.is_empty() || sleep < SILENCE, "{waiting} requests were not answered within {SILENCE:?}");
        for event in &events {
            if let Some(took) = client.read(event.data.u64() as usize)? {
                latency_ms.push(took.as_secs_f64() * 1000.0);
                progress.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    latency_ms.sort_by(f64::total_cmp);
    late_ms.sort_by(f64::total_cmp);
    Ok(Took { latency_ms, late_ms })
}

/// The connections.
struct Client {
    address: SocketAddr,
    epoll: rustix::fd::OwnedFd,
    all: Vec<Connection>,
    /// Those of them, by number, that wait for no answer.
    free: Vec<usize>,
}

struct Connection {
    stream: TcpStream,
    written: Instant,
    read: Vec<u8>,
}

impl Client {
    /// Writes a request to a free connection, or to a new one, and gives when that was.
    fn write(&mut self, request: &[u8]) -> Result<Instant> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => self.connect()?,
        };
        let connection = &mut self.all[number];
        connection.written = Instant::now();
        // A request is shorter than what the kernel keeps for a connection.
        connection.stream.write_all(request).context("a request was not taken at once")?;
        Ok(connection.written)
    }

    fn connect(&mut self) -> Result<usize> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let number = self.all.len();
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.all.push(Connection { stream, written: Instant::now(), read: Vec::new() });
        Ok(number)
    }

    /// Reads from a connection, and gives how long its request took, if that is the end of the answer.
    fn read(&mut self, number: usize) -> Result<Option<Duration>> {
        let connection = &mut self.all[number];
        let mut bytes = [0; 4096];
        loop {
            match connection.stream.read(&mut bytes) {
                Ok(0) => bail!("a connection was closed"),
                Ok(length) => connection.read.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let took = connection.written.elapsed();
        if !is_whole(&connection.read)? {
            return Ok(None);
        }
        connection.read.clear();
        self.free.push(number);
        Ok(Some(took))
    }
}

/// Whether these bytes are a whole answer.
///
/// # Errors
/// If it is anything but a 200 of a length that it announces.
fn is_whole(bytes: &[u8]) -> Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else { return Ok(false) };
    ensure!(answer.code == Some(200), "answered {}", String::from_utf8_lossy(bytes));
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without a length")?.value;
    Ok(bytes.len() >= head + std::str::from_utf8(length)?.parse::<usize>()?)
}
