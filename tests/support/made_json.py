"""JSON as nobody would write it, for tests that damage files."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SOME_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([0, -1, 10**9, "wav2vec2", "gelu", 1e400]),
    lambda part: st.lists(part, max_size=8) | st.dictionaries(st.text(max_size=6), part),
    max_leaves=12,
)

quick = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
