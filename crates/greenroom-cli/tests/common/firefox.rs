//! Firefox, without a window and without a driver: it opens one page, which itself says what it sees.
//!
//! Each has a profile of its own, in a folder that is also its home. Nothing outside of this machine is asked: no
//! name is resolved, and what it asks at home at its start is turned off.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::process::remove_folder;

/// What a browser does at home, at its first start and by itself. What it does with WebSockets stays as it comes.
const PREFERENCES: &str = r#"
user_pref("network.dns.disabled", true);
user_pref("network.proxy.type", 0);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("app.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("toolkit.telemetry.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("media.gmp-manager.url", "data:,");
"#;

/// A browser with one page. Ended, by its own process id, when dropped.
pub struct Firefox {
    child: Child,
    folder: PathBuf,
}

impl Firefox {
    /// Starts Debian's Firefox with this page.
    pub fn open(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("greenroom-firefox-{}-{number}", std::process::id()));
        let profile = folder.join("profile");
        fs::create_dir_all(&profile).unwrap();
        fs::write(profile.join("user.js"), PREFERENCES).unwrap();
        let output = fs::File::create(folder.join("output")).unwrap();
        let mut command = Command::new("firefox-esr");
        command.args(["--headless", "--no-remote", "--new-instance", "--profile"]);
        command
            .arg(&profile)
            .arg(url)
            .env("HOME", &folder)
            .env("XDG_RUNTIME_DIR", &folder)
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command.spawn().expect("firefox-esr starts: cargo xtask setup");
        Self { child, folder }
    }

    /// What it printed: for a page that says nothing.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its helpers end with it: their channel to it is closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_folder(&self.folder);
    }
}
