"""All agent programs by name."""

from collections.abc import Callable

from sfi_sglang.agents.data import data
from sfi_sglang.agents.forkjoin import fork_join
from sfi_sglang.agents.logbook import logbook
from sfi_sglang.agents.program import Program
from sfi_sglang.agents.repo import repo
from sfi_sglang.agents.research import research


def repo_frontend() -> Program:
    from sfi_sglang.agents.frontend_repo import repo_frontend  # needs SGLang here, the others need only a server

    return repo_frontend()


PROGRAMS: dict[str, Callable[[], Program]] = {
    "repo": repo,
    "repo-frontend": repo_frontend,
    "data": data,
    "research": research,
    "fork-join": fork_join,
    "logbook": logbook,
}
