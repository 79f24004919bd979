//! Mermaid sequence diagrams of what happened to clients of the reference, and of the cure, with measured figures. Pure.

use super::data::{Crowd, Evidence, Way};
use super::render::{ms, statuses};

/// A diagram, and what it shows.
pub(crate) struct Diagram {
    pub(crate) title: &'static str,
    pub(crate) text: String,
}

/// Those for which there are figures.
pub(crate) fn all(evidence: &Evidence) -> Vec<Diagram> {
    let (gate, queue) = (&evidence.gate, &evidence.queue);
    let problem =
        (gate.reference.early > 0 || queue.reference.refused() > 0).then(|| problem(&gate.reference, &queue.reference));
    let pushed = evidence.wait(Way::GreenroomPushed);
    let cured = gate.greenroom.early == 0 && gate.greenroom.answered > 0;
    let cure = pushed.filter(|_| cured).map(|wait| cure(&queue.greenroom, wait.p50));
    let diagram = |title, text: Option<String>| text.map(|text| Diagram { title, text });
    [
        diagram("What happened, with the reference", problem),
        diagram("The cure, with greenroom", cure),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn problem(gate: &Crowd, queue: &Crowd) -> String {
    format!(
        "sequenceDiagram\n    participant C as clients\n    participant S as server\n    \
         Note over S: listens, its last phase has not begun\n    C->>S: GET, Upgrade: websocket ({})\n    \
         Note over S: looks each 0.1 s, at most {}\n    S--xC: {}\n    Note over S: {} queued, {} alive when it is ready\n    \
         Note over S: the last phase begins\n    C->>S: GET, Upgrade: websocket\n    \
         S-->>C: 101, up to {} before it is ready ({} of {})\n    Note over S: ready\n",
        queue.clients,
        ms(queue.budget_ms),
        statuses(queue),
        queue.queued,
        queue.alive,
        ms(gate.early_ms),
        gate.early,
        gate.clients,
    )
}

fn cure(queue: &Crowd, released: f64) -> String {
    format!(
        "sequenceDiagram\n    participant C as clients\n    participant G as greenroom\n    participant S as server\n    \
         C->>G: GET, Upgrade: websocket ({})\n    Note over G: holds them, in order\n    Note over S: starts\n    \
         S-->>G: READY=1\n    G->>S: GET, Upgrade: websocket, {} later (median)\n    S-->>G: 101\n    G-->>C: 101\n    \
         C->>S: first message\n    S-->>C: answer ({} of {}, {} overtaken)\n",
        queue.clients,
        ms(released),
        queue.answered,
        queue.clients,
        queue.inversions,
    )
}
