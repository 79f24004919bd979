"""Says how far it is with PyPI's `sdnotify`, as it comes: two phases, READY, and STOPPING at SIGUSR2."""

import signal

import sdnotify

notifier = sdnotify.SystemdNotifier()
signal.signal(signal.SIGUSR2, lambda *_: notifier.notify("STOPPING=1"))
notifier.notify("X_GREENROOM_PHASE=database")
notifier.notify("X_GREENROOM_PHASE=cache\nSTATUS=all is there")
notifier.notify("READY=1")
while True:
    signal.pause()
