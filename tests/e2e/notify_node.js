// Says how far it is with npm's `sd-notify`, as it comes: two phases, READY, and STOPPING at SIGUSR2.

"use strict";

const notify = require("sd-notify");

process.on("SIGUSR2", () => notify.stopping());
notify.sendState("X_GREENROOM_PHASE=database");
notify.sendState("X_GREENROOM_PHASE=cache");
notify.sendStatus("all is there");
notify.ready();
setInterval(() => {}, 1000);
