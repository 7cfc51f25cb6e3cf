"""What a workload asks of a server, in tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

from sfi_sglang.client.token_count import Count, message_tokens
from sfi_sglang.trajectory.plan import Plan
from sfi_sglang.trajectory.workload import Message, Trajectory, Workload


@dataclass(frozen=True)
class CallLengths:
    """prompt, output: tokens. shared: of the longest earlier prompt of the trajectory that begins this one, 0: none."""

    prompt: int
    output: int
    shared: int


@dataclass(frozen=True)
class Statistics:
    """Means over all calls; lengths in tokens. A call shares a prefix if its prompt starts with the whole prompt of an
    earlier call of the trajectory: the system prompt alone, which a restart keeps, does not count."""

    trajectories: int
    calls: int
    turns: float
    mean_input: float
    mean_output: float
    shared_calls: float  # share of all calls
    mean_shared_prefix: float  # over these calls
    max_context: int


def statistics(workload: Workload | Plan, count: Count) -> Statistics:
    """The realised shape of a workload, or the drawn one of a plan, which needs no counting."""
    if isinstance(workload, Plan):
        return summarise(planned_lengths(workload))
    return summarise(call_lengths(trajectory, count) for trajectory in workload.trajectories)


def call_lengths(trajectory: Trajectory, count: Count) -> list[CallLengths]:
    """Prompts as a server counts them, within a few tokens a message: `message_tokens`."""
    sizes: dict[int, int] = {}  # by identity: contexts repeat the trajectory's own messages

    def tokens(messages: list[Message]) -> int:
        for message in messages:
            if id(message) not in sizes:
                sizes[id(message)] = message_tokens(message, count)
        return sum(sizes[id(message)] for message in messages)

    lengths: list[CallLengths] = []
    prompts: list[list[Message]] = []
    for turn, messages in trajectory.calls():
        shared = max((len(prompt) for prompt in prompts if messages[: len(prompt)] == prompt), default=0)
        lengths.append(CallLengths(tokens(messages), turn.output_tokens, tokens(messages[:shared])))
        prompts.append(messages)
    return lengths


def planned_lengths(plan: Plan) -> list[list[CallLengths]]:
    result = []
    for turns in plan.trajectories:
        before = [0, *(turn.prompt for turn in turns)]
        result.append(
            [
                CallLengths(turn.prompt, turn.output, 0 if turn.restart else shared)
                for turn, shared in zip(turns, before, strict=False)
            ]
        )
    return result


def summarise(trajectories: Iterable[list[CallLengths]]) -> Statistics:
    parts = list(trajectories)
    calls = [call for part in parts for call in part]
    shared = [call.shared for call in calls if call.shared]
    return Statistics(
        trajectories=len(parts),
        calls=len(calls),
        turns=len(calls) / len(parts),
        mean_input=sum(call.prompt for call in calls) / len(calls),
        mean_output=sum(call.output for call in calls) / len(calls),
        shared_calls=len(shared) / len(calls),
        mean_shared_prefix=sum(shared) / max(len(shared), 1),
        max_context=max(call.prompt + call.output for call in calls),
    )
