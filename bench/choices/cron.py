"""Which library reads cron expressions: docs/adr/0006-cron-engine.md.

    uv pip install -p .venv/bin/python croniter cronsim && .venv/bin/python bench/choices/cron.py

Asks each for its next times on wall-clock times without a zone, as the schedules do; compares them
with a walk minute by minute that knows no library; tries expressions that have to be refused; and
measures one question each. A library that is not installed is left out.
"""

import copy
import importlib
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

SEED = 20260101
CASES = 400
SPAN = timedelta(days=9)
REFUSE = [
    "5-1 * * * *",
    "* 23-4 * * *",
    "0 0 * * FRI-MON",
    "60 * * * *",
    "*/0 * * * *",
    "*/90 * * * *",
    "1-2-3 * * * *",
    "0 0 30 2 *",
    "0 0 31 4,6 *",
    "* * * *",
    "* * * * * * * *",
    "\u0661 * * * *",
    "a * * * *",
    ", * * * *",
]
TYPICAL = [
    "*/5 * * * *",
    "0 3 * * *",
    "17 4 * * 1-5",
    "0 0 1 1 *",
    "0 0 29 2 *",
    "*/10 * * * * *",
    "0 0 13 * 5",
]

NextTime = Callable[[datetime], datetime]


def cronsim(expression: str) -> NextTime:
    engine = importlib.import_module("cronsim").CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - wall-clock time

    def following(wall: datetime) -> datetime:
        search: Any = copy.copy(engine)
        search.dt = wall
        found: datetime = next(search)
        return found

    return following


def croniter(expression: str) -> NextTime:
    module = importlib.import_module("croniter").croniter
    # The rule for days is that of Vixie's cron only if it is asked for by this name.
    # Without a zone it answers in Unix seconds as if the wall clock were UTC.
    engine = module(expression, 0.0, second_at_beginning=True, implement_cron_bug=True)

    def following(wall: datetime) -> datetime:
        seconds = engine.get_next(float, start_time=wall.replace(tzinfo=UTC).timestamp())
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)

    return following


ENGINES: dict[str, Callable[[str], NextTime]] = {"cronsim": cronsim, "croniter": croniter}


def random_field(chance: random.Random, low: int, high: int) -> str:
    first, last = sorted((chance.randint(low, high), chance.randint(low, high)))
    choices = ["*", "*", str(first), f"{first}-{last}", f"*/{chance.randint(1, high)}"]
    choices += [f"{first}-{last}/{chance.randint(1, 9)}", f"{first},{last}"]
    return chance.choice(choices)


def allowed(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def walk(fields: list[str], start: datetime) -> list[datetime]:
    """Every match in `SPAN`, minute by minute; days by the rule of Vixie's cron."""
    minutes, hours = allowed(fields[0], 0, 59), allowed(fields[1], 0, 23)
    days, months = allowed(fields[2], 1, 31), allowed(fields[3], 1, 12)
    weekdays = {day % 7 for day in allowed(fields[4], 0, 7)}
    both = fields[2].startswith("*") or fields[4].startswith("*")
    found = []
    wall = start
    while (wall := wall + timedelta(minutes=1)) <= start + SPAN:
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            continue
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        if (day and weekday) if both else (day or weekday):
            found.append(wall)
    return found


def ask(engine: str, fields: list[str], start: datetime, until: datetime) -> list[datetime] | str:
    try:
        following = ENGINES[engine](" ".join(fields))
        found: list[datetime] = []
        wall = following(start)
        while wall <= until and len(found) < 20_000:
            found.append(wall)
            wall = following(wall)
    except StopIteration:
        return []
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the answer
        return f"{type(error).__name__}: {error}"
    return found


def correctness(engine: str) -> None:
    chance = random.Random(SEED)
    wrong: list[str] = []
    refused: list[tuple[str, str]] = []
    for _ in range(CASES):
        bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
        fields = [random_field(chance, low, high) for low, high in bounds]
        fields[0] = str(chance.randint(0, 59))  # keeps the walk short
        start = datetime(2026, 1, 1) + timedelta(minutes=chance.randrange(525_600))  # noqa: DTZ001 - wall-clock time
        expected = walk(fields, start)
        found = ask(engine, fields, start, start + SPAN)
        if isinstance(found, str):
            refused.append((" ".join(fields), found))
        elif found != expected:
            wrong.append(" ".join(fields))
    print(f"  {CASES} expressions: {len(wrong)} answered wrongly {wrong[:4]},")
    print(f"    {len(refused)} refused {refused[:3]}")


def refusals(engine: str) -> None:
    start = datetime(2026, 1, 1)  # noqa: DTZ001 - wall-clock time
    taken = []
    for expression in REFUSE:
        try:
            ENGINES[engine](expression)
        except ValueError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the answer
            if type(error).__module__.partition(".")[0] != engine:
                taken.append(f"{expression} ({type(error).__name__})")
            continue
        late = ask(engine, expression.split(), start, start + SPAN)
        taken.append(f"{expression} (later: {late})" if isinstance(late, str) else expression)
    print(f"  {len(taken)} of {len(REFUSE)} wrong expressions not refused when read: {taken}")


def speed(engine: str) -> None:
    chance = random.Random(SEED)
    starts = [
        datetime(2026, 1, 1) + timedelta(seconds=chance.randrange(31_536_000))  # noqa: DTZ001 - wall-clock time
        for _ in range(500)
    ]
    for expression in TYPICAL:
        following = ENGINES[engine](expression)
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            for start in starts:
                following(start)
            rounds.append((time.perf_counter() - began) / len(starts) * 1e6)
        began = time.perf_counter()
        for _ in range(200):
            ENGINES[engine](expression)
        read = (time.perf_counter() - began) / 200 * 1e6
        print(f"  {expression:16} {statistics.median(rounds):8.1f} µs, read in {read:6.1f} µs")


def main() -> None:
    for engine in ENGINES:
        try:
            version = getattr(importlib.import_module(engine), "__version__", "")
        except ImportError:
            print(f"{engine}: not installed")
            continue
        print(f"{engine} {version}")
        correctness(engine)
        refusals(engine)
        speed(engine)


if __name__ == "__main__":
    main()
