/* Says how far it is with libsystemd, as it comes: two phases, READY, and STOPPING at SIGUSR2. */

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-daemon.h>

int main(void) {
    sigset_t set;
    int number;
    uint64_t usec;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (sd_notify(0, "X_GREENROOM_PHASE=database") <= 0)
        return 1;
    if (sd_notifyf(0, "X_GREENROOM_PHASE=cache\nSTATUS=%s", "all is there") <= 0)
        return 2;
    if (sd_watchdog_enabled(0, &usec) != 0) /* nobody asked for one */
        return 3;
    if (sd_notify(0, "READY=1") <= 0)
        return 4;
    if (sd_notify_barrier(0, 20 * 1000 * 1000) <= 0) /* all of it was taken in */
        return 5;
    sigwait(&set, &number);
    sd_notify(0, "STOPPING=1");
    for (;;)
        sigwait(&set, &number);
}
