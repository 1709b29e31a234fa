"""Seconds that this process and its children had a core for: a busy machine changes them little."""

import resource

__all__ = ["processor_seconds"]


def processor_seconds() -> float:
    """So far, of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
