"""Several proposals at once: each takes one site and one angle, is mended once when broken, and refused after that."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from pydantic import Field

from agentlightning.algorithms.apo import evidence, reflection
from agentlightning.algorithms.apo.drafts import most_typical, without_loners
from agentlightning.algorithms.apo.evidence import Run
from agentlightning.algorithms.apo.lines import Line
from agentlightning.algorithms.apo.proposal import Proposal, Rules, read_proposal
from agentlightning.algorithms.apo.reflection import Reflection
from agentlightning.algorithms.apo.search import Candidate, Verdict
from agentlightning.algorithms.apo.together import together
from agentlightning.algorithms.base import AlgorithmConfig, Session
from agentlightning.data.call import Message, Reply
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.errors import ModelError

DEFAULT_CAP = 2000
TOOL_CAP = 1024
"""OpenAI refuses longer descriptions."""
_MAX_REMEMBERED = 20
_STALE_ROUNDS = 3
"""After so many rounds in a row without success the typical ideas were tried: every draft is a candidate then."""


class TextConfig(AlgorithmConfig):
    """Which texts may be rewritten, and how long they may become."""

    max_prompt_length: int | None = Field(default=None, ge=1)
    """Characters an instruction may have. None: 2000, or the agent's own text and a quarter where that is more."""
    tool_descriptions: bool = False
    """Rewrite what the agents' tools are said to do, too (never their names or parameters)."""

    def offered(self, sites: Sequence[PromptSite]) -> list[PromptSite]:
        """Those of a session's sites that may be rewritten."""
        return [site for site in sites if self.tool_descriptions or site.kind != "tool"]

    def cap(self, site: PromptSite) -> int:
        """Most characters a text at the site may have."""
        default = TOOL_CAP if site.kind == "tool" else DEFAULT_CAP
        return self.max_prompt_length or max(default, len(site.template) * 5 // 4)


class ProposalConfig(TextConfig):
    """What is shown to the optimiser model, and what it may answer."""

    num_drafts: int = Field(default=5, ge=1)
    """Texts asked for where one candidate is wanted; the one most like the others is run, without lines they lack."""
    max_runs_shown: int = Field(default=24, ge=1)
    """Runs shown in one request, earlier ones included. With three, the rule behind the failures is hard to see."""
    show_expected: bool = True
    """Show the tasks' expected answers next to what the agent gave."""
    temperature: float | None = 1.0
    """Of the optimiser model; None leaves the provider's default."""
    max_proposal_tokens: int = Field(default=8000, ge=1)
    """Room for one reply, the hidden reasoning of some models included."""


class Question(msgspec.Struct, frozen=True):
    """One proposal to ask for."""

    parent: Policy
    site: PromptSite
    cap: int
    text: str
    draws: Sequence[int]
    """One for each draft."""
    round_index: int

    def policy(self, text: str) -> Policy:
        """The parent with `text` at the site asked about."""
        return self.parent.with_prompt(self.site, text)


class Asked(msgspec.Struct, frozen=True):
    """What a round of proposals brought."""

    candidates: list[Candidate]
    num_refused: int
    failures: list[str]
    """What the optimiser model failed with, one line per proposal lost to it."""

    @property
    def num_answered(self) -> int:
        return len(self.candidates) + self.num_refused


class Proposer:
    """Asks for candidates, and remembers what was asked, tried and rejected."""

    def __init__(self, session: Session, config: ProposalConfig) -> None:
        self.session, self.config = session, config
        self._rejected: dict[str, list[str]] = {}
        self._rules = Rules([*session.training_tasks, *session.validation_tasks])
        self._sites = config.offered(session.sites)
        self._rotation = Rotation(self._sites)
        self._num_stale = 0
        """Rounds in a row that brought nothing: the next proposals take narrower angles."""
        self._tried = {session.policy.id}
        self._num_asked = self._num_drawn = self._num_admitted = 0
        self._refusals: Counter[str] = Counter()

    def describe_refusals(self) -> str:
        """What to say of an optimiser model of whose proposals none could be run; empty where one could."""
        num_refused = sum(self._refusals.values())
        if self._num_admitted or not num_refused:
            return ""
        [(why, _)] = self._refusals.most_common(1)
        return (
            f"none of the {num_refused} proposals of the optimiser model could be run, most often because: {why}. "
            "A stronger model can be named: models: {optimizer: …}"
        )

    @property
    def num_drafts(self) -> int:
        """Texts asked for a candidate in the next round."""
        return self.config.num_drafts if self._num_stale < _STALE_ROUNDS else 1

    def learn(self, verdicts: Sequence[Verdict], accepted: Verdict | None) -> None:
        """What was measured goes into later requests: not to repeat what did not help."""
        self._num_stale = self._num_stale + 1 if accepted is None else 0
        for verdict in verdicts:
            site = verdict.candidate.site
            if verdict.gain <= 0 and verdict is not accepted and site is not None:
                self._rejected.setdefault(site.id, []).append(f"{verdict.candidate.idea} ({verdict.effect})")

    def forget(self, lines: Iterable[Line]) -> None:
        """Lines that were left out again are rejected ideas too."""
        for line in lines:
            self._rejected.setdefault(line.site, []).append(f"{line.text} (brought nothing on other tasks)")

    async def propose(self, parent: Policy, runs: Sequence[Run], count: int, round_index: int) -> Asked:
        """Up to `count` candidates drawn from `runs` of `parent`. Refused ones are put on record here."""
        questions = self._questions(parent, runs, count, round_index)
        answers = await together(self._ask(question) for question in questions)
        candidates: list[Candidate] = []
        for question, answer in zip(questions, answers, strict=True):
            if isinstance(answer, Proposal) and (candidate := await self._admit(question, answer)):
                candidates.append(candidate)
        failures = [answer for answer in answers if isinstance(answer, str)]
        return Asked(candidates, count - len(candidates) - len(failures), failures)

    def _questions(self, parent: Policy, runs: Sequence[Run], count: int, round_index: int) -> list[Question]:
        rng = random.Random(f"{self.session.seed}/{round_index}")
        weights = evidence.blame(runs, self._sites)
        shown = evidence.select(runs, self.config.max_runs_shown, rng)
        questions: list[Question] = []
        for number in range(count):
            site = self._rotation.next(weights)
            cap = self.config.cap(site)
            focus = self._narrow_focus(parent, site, shown) if number and self._num_stale else reflection.FOCUS_ALL
            text = self._request(parent, site, cap, shown, focus)
            draws = range(self._num_drawn, self._num_drawn + self.num_drafts)
            questions.append(Question(parent, site, cap, text, draws, round_index))
            self._num_asked += 1
            self._num_drawn += len(draws)
        return questions

    def _narrow_focus(self, parent: Policy, site: PromptSite, shown: Sequence[Run]) -> str:
        angles = reflection.focuses(parent.text_at(site), has_tools=bool(evidence.tools_of(shown, site.agent)))
        return angles[self._num_asked % len(angles)]

    def _request(self, parent: Policy, site: PromptSite, cap: int, shown: Sequence[Run], focus: str) -> str:
        return reflection.write_request(
            Reflection(
                site=site,
                text=parent.text_at(site),
                cap=cap,
                runs=shown,
                rejected=self._rejected.get(site.id, [])[-_MAX_REMEMBERED:],
                focus=focus,
                others=[
                    (other, parent.text_at(other)) for other in self._sites if other.id != site.id and not other.tool
                ],
                show_expected=self.config.show_expected,
            )
        )

    async def _ask(self, question: Question) -> Proposal | str:
        """A proposal (possibly still with problems), or what the model failed with: of its drafts the most typical."""
        drafts = await together(self._draft(question, draw) for draw in question.draws)
        sound = [draft for draft in drafts if isinstance(draft, Proposal) and not draft.problems]
        if not sound:
            return next((draft for draft in drafts if isinstance(draft, Proposal)), drafts[0])
        texts, current = [draft.text for draft in sound], question.parent.text_at(question.site)
        typical = sound[texts.index(most_typical(texts, current))]
        agreed = self._checked(msgspec.structs.replace(typical, text=without_loners(texts, current)), question)
        return typical if agreed.problems else agreed

    async def _draft(self, question: Question, draw: int) -> Proposal | str:
        messages: list[Message] = [{"role": "user", "content": question.text}]
        try:
            reply = await self._complete(messages, draw)
            proposal = self._checked(read_proposal(reply), question)
            if not proposal.problems:
                return proposal
            messages += ({"role": "assistant", "content": reply.text or "(nothing)"},)
            messages += ({"role": "user", "content": reflection.write_repair(proposal.problems)},)
            return self._checked(read_proposal(await self._complete(messages, draw)), question)
        except ModelError as error:
            return " ".join(str(error).split())

    async def _complete(self, messages: list[Message], draw: int) -> Reply:
        config = self.config
        return await self.session.complete(
            messages, draw=draw, temperature=config.temperature, max_tokens=config.max_proposal_tokens
        )

    def _checked(self, proposal: Proposal, question: Question) -> Proposal:
        problems = self._rules.problems(proposal, question.site, question.parent.text_at(question.site), question.cap)
        if not problems and question.policy(proposal.text).id in self._tried:
            problems.append("the same text was proposed before")
        return msgspec.structs.replace(proposal, problems=tuple(problems))

    async def _admit(self, question: Question, proposal: Proposal) -> Candidate | None:
        """Called in the order asked, so of two equal proposals of a round it is always the second that is refused."""
        policy, problems = question.policy(proposal.text), list(proposal.problems)
        if not problems and policy.id in self._tried:
            problems.append("the same text was proposed twice in this round")
        if not problems:
            self._tried.add(policy.id)
            self._num_admitted += 1
            return Candidate(policy, question.parent, proposal.idea, question.site)
        self._refusals[problems[0]] += 1
        await self.session.decide(
            policy,
            "refused",
            parent=question.parent,
            reason="; ".join(problems),
            idea=proposal.idea,
            site=question.site.id,
            round=question.round_index + 1,
        )
        return None


class Rotation:
    """Whose turn is it? A round robin in which each site's share follows its weight."""

    def __init__(self, sites: Sequence[PromptSite]) -> None:
        self._sites = sites
        self._credit = {site.id: 0.0 for site in sites}

    def next(self, weights: Mapping[str, float]) -> PromptSite:
        total = sum(weights.values())
        for site in self._sites:
            self._credit[site.id] += weights[site.id] / total if total else 1 / len(self._sites)
        chosen = max(self._sites, key=lambda site: self._credit[site.id])
        self._credit[chosen.id] -= 1
        return chosen
