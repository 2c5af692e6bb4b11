# Sourced: makes temporary folders lie in memory where there is room. Jobs flush their files all the time, and what dies in
# tests are processes, not the machine.
memory=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)
if [ -z "${TMPDIR:-}" ] && [ "${memory:-0}" -gt 2000000 ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
