//! A lean load generator and a lean receiver for benchmarks: HTTP/1.1 on kept connections, nothing more.
//!
//! They must cost far less than what they measure, so they write prepared bytes and read just enough of an answer to
//! know where it ends. They share one process and one clock, so an arrival can be timed against its request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many.
    pub requests: usize,
    /// Over how many connections at once.
    pub connections: usize,
    /// One every so often, or as fast as answers come.
    pub every: Option<Duration>,
}

/// When each request was sent and its answer read, in order of request.
pub type Times = Vec<(Instant, Instant)>;

/// Sends requests; `request` writes the bytes of the one with that number. Every answer must be 2xx.
pub async fn drive(
    address: SocketAddr,
    load: Load,
    request: Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
) -> Result<Times> {
    let (next, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut workers = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let (next, request) = (Arc::clone(&next), Arc::clone(&request));
        workers.push(tokio::spawn(async move {
            let mut stream = connect(address).await?;
            let (mut buffer, mut times) = (Vec::with_capacity(8 << 10), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= load.requests {
                    return anyhow::Ok(times);
                }
                let bytes = request(number);
                if let Some(every) = load.every {
                    let due = start + every * u32::try_from(number)?;
                    tokio::time::sleep_until(due.into()).await;
                }
                let sent = Instant::now();
                stream.write_all(&bytes).await?;
                answered(&mut stream, &mut buffer).await?;
                times.push((number, (sent, Instant::now())));
            }
        }));
    }
    let mut all = Vec::with_capacity(load.requests);
    for worker in workers {
        all.extend(worker.await??);
    }
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, times)| times).collect())
}

/// A GET as bytes.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{headers}\r\n").into_bytes()
}

/// A POST as bytes.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("cannot connect to what is measured")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer: a head, and a body of the length it declares.
async fn answered(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let message =
        read_message(stream, buffer).await?.context("the connection was closed instead of an answer")?;
    let status = message.get(9..12).unwrap_or_default();
    ensure!(status.starts_with(b"2"), "answered {}", String::from_utf8_lossy(&message));
    Ok(())
}

/// Reads one message with a declared length and returns it whole; `None` at the end of the connection.
async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let whole = head + 4 + declared_length(&buffer[..head]);
            if buffer.len() >= whole {
                return Ok(Some(buffer.drain(..whole).collect()));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn declared_length(head: &[u8]) -> usize {
    let name = b"content-length: ";
    let value = head.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name));
    let digits = value.map(|at| head[at + name.len()..].iter().take_while(|byte| byte.is_ascii_digit()));
    digits.map_or(0, |digits| digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A server that answers everything, 200 unless it was told otherwise, and notes when each numbered event arrived.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    arrivals: Arc<Mutex<Vec<(usize, Instant)>>>,
    count: watch::Sender<usize>,
}

impl Sink {
    /// Starts one on the current runtime.
    pub async fn start() -> Result<Self> {
        Self::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await
    }

    /// Starts one that answers with the bytes that `answer` makes of a whole request.
    pub async fn answering(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Result<Self> {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let sink =
            Self { address: listener.local_addr()?, arrivals: Arc::default(), count: watch::channel(0).0 };
        let (arrivals, count) = (Arc::clone(&sink.arrivals), sink.count.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, Arc::clone(&answer), Arc::clone(&arrivals), count.clone()));
            }
        });
        Ok(sink)
    }

    /// Waits for so many requests since the start; gives when each numbered event arrived, and forgets them.
    pub async fn take(&self, count: usize) -> Result<Vec<(usize, Instant)>> {
        self.count.subscribe().wait_for(|seen| *seen >= count).await?;
        self.count.send_replace(0);
        Ok(std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Marks an event's number in its data: `"bench_number":7,`.
pub const NUMBER: &str = "\"bench_number\":";

/// The number that a message bears.
pub fn number(message: &[u8]) -> Option<usize> {
    let digits = message.get(find(message, NUMBER.as_bytes())? + NUMBER.len()..)?;
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// Head and body of a message.
pub fn parts(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(message, b"\r\n\r\n")?;
    Some((message.get(..end)?, message.get(end + 4..)?))
}

type Answer = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

async fn receive(
    mut stream: TcpStream,
    answer: Arc<Answer>,
    arrivals: Arc<Mutex<Vec<(usize, Instant)>>>,
    count: watch::Sender<usize>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 << 10);
    while let Some(message) = read_message(&mut stream, &mut buffer).await? {
        let now = Instant::now();
        if let Some(number) = number(&message) {
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
        }
        stream.write_all(&answer(&message)).await?;
        count.send_modify(|seen| *seen += 1);
    }
    Ok(())
}

/// CPU time of the threads that a process has now, in the scheduler's nanoseconds (`/proc/<pid>/task/*/schedstat`).
///
/// Finer than [`cpu_time`], but threads that ended are missing: for processes that keep theirs, such as Envoy.
pub fn thread_time(process: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu = text.split_whitespace().next().context("no schedstat")?;
        all += Duration::from_nanos(on_cpu.parse()?);
    }
    Ok(all)
}

/// CPU time that a process has used so far, user and system, in ticks of 10 ms.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold blanks; the fields are counted behind it (proc(5): utime and stime are 14 and 15).
    let fields = stat.rsplit(')').next().context("no such process")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// CPU time of a process and of all that it has started, those that it has waited for included.
pub fn tree_time(process: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile is counted with its parent.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<u64> = stat.rsplit(')').next().map_or_else(Vec::new, |rest| {
            rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or_default()).collect()
        });
        let ticks = match (id == process, fields.first() == Some(&u64::from(process))) {
            // proc(5): utime, stime, and those of children that were waited for.
            (true, _) => fields.get(10..14),
            (false, true) => fields.get(10..12),
            (false, false) => None,
        };
        all += Duration::from_millis(ticks.unwrap_or_default().iter().sum::<u64>() * 10);
    }
    Ok(all)
}

/// The process that listens on a port of this machine, where we may know.
pub fn listener(port: u16) -> Option<u32> {
    let (local, listening) = (format!(":{port:04X}"), "0A");
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| {
            row.get(1).is_some_and(|at| at.ends_with(&local)) && row.get(3) == Some(&listening)
        })?;
        row.get(9).map(|inode| format!("socket:[{inode}]"))
    })?;
    let holds = |id: u32| {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?;
        let mut targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| target.as_os_str() == inode.as_str()).then_some(id)
    };
    let ids = std::fs::read_dir("/proc").ok()?.flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(holds)
}

/// Present memory of a process in bytes (`VmRSS`).
pub fn memory(process: u32) -> Result<u64> {
    status_bytes(process, "VmRSS:")
}

/// Peak memory of a process in bytes (`VmHWM`).
pub fn peak_memory(process: u32) -> Result<u64> {
    status_bytes(process, "VmHWM:")
}

fn status_bytes(process: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
