//! A mail server on loopback that takes everything, and remembers it as it came.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A connection that says nothing for so long is over.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest mail that is kept, in bytes.
const MAIL_MAX_BYTES: usize = 1024 * 1024;

/// The server; its thread ends with the process.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens.
    pub address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    /// Starts it.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let shared = mails.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(&stream, &shared);
            }
        });
        Ok(Self { address, mails })
    }

    /// Every mail so far: its envelope's lines, then its text.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: &TcpStream, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    writer.write_all(b"220 test\r\n")?;
    let mut mail = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let command = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        match &*command {
            "EHLO" => writer.write_all(b"250-test\r\n250 8BITMIME\r\n")?,
            "DATA" => {
                writer.write_all(b"354 go on\r\n")?;
                line.clear();
                while reader.read_line(&mut line)? > 0 && !line.ends_with("\r\n.\r\n") && line != ".\r\n" {
                    if mail.len() + line.len() > MAIL_MAX_BYTES {
                        return Ok(());
                    }
                    mail.push_str(&line);
                    line.clear();
                }
                mails.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut mail));
                writer.write_all(b"250 taken\r\n")?;
            }
            "QUIT" => return writer.write_all(b"221 bye\r\n"),
            _ => {
                mail.push_str(&line);
                writer.write_all(b"250 yes\r\n")?;
            }
        }
        line.clear();
    }
    Ok(())
}
