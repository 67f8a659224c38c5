"""The values that the sections under ``[limits]`` stand for."""

from __future__ import annotations

from collegium.config.sections import AccountSection, LimitsSection
from collegium.domain.usage import Allotment, Limits
from collegium.runtime.accounts import AccountCaps, PeriodCaps


def run_limits(section: LimitsSection) -> Limits:
    """Limits of goals that bring none."""
    run = section.run
    return Limits(
        cost_usd=run.usd,
        tokens=run.tokens,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        tool_calls=run.tool_calls,
        deadline_s=run.deadline_s,
        steps_per_task=run.steps_per_task,
        tasks=run.tasks,
        parallel=run.parallel,
    )


def account_caps(section: LimitsSection) -> AccountCaps:
    """What tenants, users and agents may take in a day and a month."""
    return AccountCaps(
        tenant=_periods(section.tenant),
        user=_periods(section.user),
        agent=_periods(section.agent),
        slice_share=section.slice_share,
    )


def _periods(section: AccountSection) -> PeriodCaps:
    return PeriodCaps(
        day=Allotment(
            cost_usd=section.day_usd,
            tokens=section.day_tokens,
            input_tokens=section.day_input_tokens,
            output_tokens=section.day_output_tokens,
            tool_calls=section.day_tool_calls,
        ),
        month=Allotment(
            cost_usd=section.month_usd,
            tokens=section.month_tokens,
            input_tokens=section.month_input_tokens,
            output_tokens=section.month_output_tokens,
            tool_calls=section.month_tool_calls,
        ),
    )
