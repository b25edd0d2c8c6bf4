"""For every test: a terminal's Ctrl-C, whatever the tests were started from.

A shell that starts a command in the background lets it ignore SIGINT, and so do the programs it starts; those of the
tests that interrupt a program would then wait for ever.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
