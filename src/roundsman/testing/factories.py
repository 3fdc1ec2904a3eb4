"""Things to test and to measure with, in the numbers wanted."""

from pathlib import Path


def write_fleet(
    path: Path, *, devices: int, jobs: int = 5, tag_sets: int = 48, hourly: bool = False
) -> Path:
    """Write the configuration of a fleet, as YAML, and return its path.

    Every device has every job; the jobs are due each minute, or hourly, each at a minute of its
    own. The devices share `tag_sets` distinct sets of two tags evenly. Device 0 is `device-000000`,
    job 0 is `job-0`.
    """
    all_jobs = [f"job-{number}" for number in range(jobs)]
    lines = [
        "job_generics:",
        "  default:",
        '    prompt: {ends_with: "#"}',
        '    schedule: {cron: "* * * * *"}',
        "jobs:",
    ]
    for minute, job in enumerate(all_jobs):
        lines += [f"  {job}:", f"    command: {{inline: [show {job}]}}"]
        if hourly:
            lines.append(f'    schedule: {{cron: "{minute} * * * *"}}')
    lines += [
        "device_generics:",
        "  default:",
        f"    jobs: [{', '.join(all_jobs)}]",
        "devices:",
    ]
    for number in range(devices):
        high, low = divmod(number % 65536, 256)
        lines += [
            f"  device-{number:06}:",
            f"    host: 10.{number // 65536}.{high}.{low}",
            "    protocol: {type: ssh, ssh: {port: 22}}",
            f"    tags: [site-{number % tag_sets}, region-{number % tag_sets // 8}]",
            "    credentials:",
            "      user: backup",
            f"      pass: secret-{number}",
        ]
    path.write_text("\n".join([*lines, ""]))
    return path
