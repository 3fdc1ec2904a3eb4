"""When a job is due: cron, duration, ISO 8601 and fixed times, as pure functions of time."""
