"""Check the choice on random stores, against a walk over what names what."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.choice import DAY_S, GRACE_S, Limits, Roots, choose
from pipeline.store.contents import Contents, Item, Named

NOW = 1_000 * DAY_S
BLOBS = [f"sha256:{index}" for index in range(8)]
KEYS = [f"k{index}" for index in range(8)]
RUNS = [f"r{index}" for index in range(5)]


def items(names):
    item = st.builds(Item, st.just(Path("x")), st.integers(1, 100), st.floats(NOW - 90 * DAY_S, NOW))
    return st.dictionaries(st.sampled_from(names), item)


@st.composite
def stores(draw):
    """Return contents in which a record names blobs and, as children, records before it; some of all are missing."""
    records, runs, work = draw(items(KEYS)), draw(items(RUNS)), draw(items(KEYS))
    some = lambda names: st.frozensets(st.sampled_from(names), max_size=3) if names else st.just(frozenset())  # noqa: E731
    made = {key: Named(draw(some(KEYS[: KEYS.index(key)])), draw(some(BLOBS)), "stage") for key in records}
    listed = {run: Named(draw(some(KEYS)), draw(some(BLOBS)), draw(st.sampled_from("ab"))) for run in runs}
    blobs, quarantine = draw(items(BLOBS)), draw(items(["damaged"]))
    resumable = frozenset(key for key in work if draw(st.booleans()))
    return Contents(blobs, records, runs, work, quarantine, {}, {}, {}, made, listed, resumable, 0)


def closure(contents, named):
    """Walk, unlike the code under test, over one name at a time."""
    keys, blobs = set(), set(named.blobs)
    for key in named.keys:
        keys.add(key)
        if key in contents.made:
            deeper = closure(contents, contents.made[key])
            keys, blobs = keys | deeper[0], blobs | deeper[1]
    return keys, blobs


limits = st.builds(Limits, st.none() | st.floats(0, 100), st.none() | st.integers(0, 2000))
roots = st.builds(
    Roots,
    st.frozensets(st.sampled_from(RUNS)),
    st.frozensets(st.sampled_from([*KEYS, *BLOBS, *(f"run:{run}" for run in RUNS), "recipe:a"])),
    st.frozensets(st.sampled_from(KEYS), max_size=2),
)


@given(stores(), roots, limits)
def test_what_is_kept_is_whole_what_is_used_stays_and_the_limits_hold(contents, roots, limits):
    kept = choose(contents, roots, limits, NOW)
    used_runs = {name[4:] for name in roots.used if name.startswith("run:")}
    assert kept.runs >= contents.runs.keys() & (roots.pinned | used_runs)
    assert kept.keys >= contents.records.keys() & (roots.used | roots.busy)
    assert kept.blobs >= contents.blobs.keys() & roots.used
    assert kept.work >= contents.work.keys() & (roots.used | roots.busy)
    of_recipe = [run for run in contents.runs if contents.listed[run].title == "a"]
    if "recipe:a" in roots.used and of_recipe:
        assert max(contents.runs[run].time for run in of_recipe) in {contents.runs[run].time for run in kept.runs}
    for named in (
        *(contents.listed[run] for run in kept.runs),
        *(contents.made[key] for key in kept.keys if key in contents.made),
    ):
        keys, blobs = closure(contents, named)
        assert keys <= kept.keys
        assert blobs <= kept.blobs
    parts = (
        (contents.runs, kept.runs),
        (contents.records, kept.keys),
        (contents.blobs, kept.blobs),
        (contents.work, kept.work),
        (contents.quarantine, kept.quarantine),
    )
    assert kept.size_bytes == sum(part[name].size_bytes for part, names in parts for name in names if name in part)
    forced = choose(contents, roots, Limits(max_bytes=0), NOW)
    if limits.max_bytes is not None:
        assert kept.size_bytes <= max(limits.max_bytes, forced.size_bytes)
    for run in kept.runs - forced.runs:
        assert limits.keep_days is None or contents.runs[run].time >= NOW - limits.keep_days * DAY_S
        # The newest are kept first.
        assert not [
            name for name in contents.runs.keys() - kept.runs if contents.runs[name].time > contents.runs[run].time
        ]


@given(stores())
def test_without_limits_only_leftovers_go(contents):
    kept = choose(contents, Roots(), Limits(), NOW)
    assert kept.runs == contents.runs.keys()
    assert kept.keys >= contents.records.keys()
    assert kept.quarantine == contents.quarantine.keys()
    named = {digest for one in (*contents.listed.values(), *contents.made.values()) for digest in one.blobs}
    young = {digest for digest, item in contents.blobs.items() if item.time > NOW - GRACE_S}
    assert contents.blobs.keys() & kept.blobs == contents.blobs.keys() & (named | young)
    of_nobody = {key for key in contents.work if key in contents.records or key not in contents.resumable}
    assert {key for key in of_nobody & kept.work if contents.work[key].time <= NOW - GRACE_S} == set()


def contents_of(**parts):
    empty = {
        name: {}
        for name in ("blobs", "records", "runs", "work", "quarantine", "tmp", "locks", "leases", "made", "listed")
    }
    return Contents(**{**empty, "resumable": frozenset(), "other_bytes": 0, **parts})


def test_the_newest_run_that_no_longer_fits_ends_what_is_kept():
    runs = {
        name: Item(Path(name), size, NOW - age * DAY_S)
        for name, size, age in (("new", 5, 1), ("large", 50, 2), ("old", 1, 3))
    }
    contents = contents_of(runs=runs, listed=dict.fromkeys(runs, Named()))
    assert choose(contents, Roots(), Limits(max_bytes=20), NOW).runs == {"new"}
    assert choose(contents, Roots(), Limits(keep_days=2.5), NOW).runs == {"new", "large"}
    assert choose(contents, Roots(pinned=frozenset({"old"})), Limits(max_bytes=0), NOW).runs == {"old"}


def test_what_a_process_without_a_lease_may_be_writing_has_a_grace():
    old, young = (Item(Path("x"), 1, NOW - age) for age in (GRACE_S + 1, GRACE_S - 1))
    for item, stays in ((old, False), (young, True)):
        contents = contents_of(
            blobs={"sha256:1": item}, records={"k": item}, work={"w": item}, made={"k": Named()}, listed={}
        )
        kept = choose(contents, Roots(), Limits(max_bytes=0), NOW)
        assert ("sha256:1" in kept.blobs, "k" in kept.keys, "w" in kept.work) == (stays, stays, stays)
