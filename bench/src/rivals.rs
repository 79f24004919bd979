//! Other gateways, in their plainest configuration: one process, one thread,
//! no log. Measured only if they are there. nginx keeps connections to the backend only
//! if it is told to, closes a client's after 1,000 requests and writes large answers into
//! files: none of that is what is compared, so it is told otherwise.
//! no log. Measured only if they are there.
//!
//! Caddy runs many threads whatever it is told; with GOMAXPROCS=1 one of them
//! at a time runs its code.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::site::PATIENCE;
use crate::{Failure, Options, any_port};

/// A gateway to compare with.
#[derive(Debug)]
pub(crate) enum Rival {
    HAProxy(PathBuf),
    Nginx(PathBuf),
    Caddy(PathBuf),
}

/// Its files; removed when dropped.
pub(crate) struct Files(PathBuf);

impl Files {
    /// A new folder; `name` is used once by this process.
    pub(crate) fn new(name: &str) -> Result<Self, Failure> {
        let files = Self(std::env::temp_dir().join(format!("greenroom-bench-{}-{name}", std::process::id())));
        fs::create_dir_all(&files.0)?;
        Ok(files)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Those that were named, or are in PATH.
pub(crate) fn present(options: &Options) -> Vec<Rival> {
    let find = |named: &Option<PathBuf>, name: &str| {
        let in_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path)
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        named.clone().or_else(in_path)
    };
    let haproxy = find(&options.haproxy, "haproxy").map(Rival::HAProxy);
    let nginx = find(&options.nginx, "nginx").map(Rival::Nginx);
    let caddy = find(&options.caddy, "caddy").map(Rival::Caddy);
    [haproxy, nginx, caddy].into_iter().flatten().collect()
}

impl Rival {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::HAProxy(_) => "HAProxy",
            Self::Nginx(_) => "nginx",
            Self::Caddy(_) => "Caddy",
        }
    }

    /// Starts it before `backend`.
    pub(crate) fn start(&self, backend: SocketAddr) -> Result<(Process, SocketAddr, Files), Failure> {
        // None of them tells which port it took, so one is chosen for it.
        let address = TcpListener::bind(any_port())?.local_addr()?;
        let files = Files::new(&address.port().to_string())?;
        let file = files.0.join("config");
        let mut command = match self {
            Self::HAProxy(program) => {
                fs::write(&file, haproxy(address, backend))?;
                let mut command = Command::new(program);
                command.arg("-db").arg("-f").arg(&file);
                command
            }
            Self::Nginx(program) => {
                fs::write(&file, nginx(&files.0, address, backend))?;
                let mut command = Command::new(program);
                command
                    .arg("-p")
                    .arg(&files.0)
                    .arg("-e")
                    .arg(files.0.join("error"))
                    .arg("-c")
                    .arg(&file);
                command
            }
            Self::Caddy(program) => {
                fs::write(&file, caddy(&files.0, address, backend))?;
                let mut command = Command::new(program);
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
                command.env("GOMAXPROCS", "1").env("HOME", &files.0);
                command
            }
        };
        command.current_dir(&files.0);
        let process = Process::start(self.name(), command)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not listen", self.name()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok((process, address, files))
    }
}

fn haproxy(listen: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 1h\n\
         frontend front\n  bind {listen}\n  default_backend back\n\
         backend back\n  server one {backend}\n"
    )
}

fn nginx(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let folder = folder.display();
    let group = "upstream"; // tidy: allow-word nginx's own
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;\n\
         events {{ worker_connections 20000; }}\n\
         http {{\n  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n\
           fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
           keepalive_requests 1000000000; proxy_max_temp_file_size 0;\n\
           map $http_upgrade $connection_wanted {{ default upgrade; '' ''; }}\n\
           {group} back {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}\n\
           server {{ listen {listen}; location / {{ proxy_pass http://back; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_wanted; proxy_read_timeout 1h; }} }}\n}}\n"
    )
}

fn caddy(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let (folder, port) = (folder.display(), listen.port());
    format!(
        "{{\n  admin off\n  auto_https off\n  storage file_system {folder}/storage\n  log {{\n    level ERROR\n  }}\n}}\n\
         http://{host}:{port} {{\n  bind {host}\n  reverse_proxy {backend}\n}}\n",
        host = listen.ip(),
    )
}
