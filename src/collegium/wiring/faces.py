"""The faces of a serving process: what is answered over HTTP, and to whom."""

from __future__ import annotations

from collegium import __version__
from collegium.app import Collegium
from collegium.config import Settings, explain
from collegium.domain.rate import Rate, per_minute
from collegium.ports import Clock, Quota
from collegium.server.access.installation import SettingShown
from collegium.server.access.models import KnownModel
from collegium.server.app import Faces
from collegium.server.rates.limiter import Limiter
from collegium.server.rates.policy import RatePolicy
from collegium.wiring import default_model, export_run, privacy
from collegium.wiring.auth import doorkeeper
from collegium.wiring.models import known_models
from collegium.wiring.patience import Patience


def faces(settings: Settings, patience: Patience, *, clock: Clock) -> Faces | None:
    """The faces, as ``settings`` say; None where only health is answered."""
    if settings.server.health_only:
        return None

    def quota() -> Quota | None:
        return None if patience.app is None else patience.app.stores.quota

    async def models_of(app: Collegium) -> list[KnownModel]:
        return known_models(settings, app.roster, await default_model(settings))

    return Faces(
        opened=lambda: patience.app,
        authenticator=doorkeeper(settings, lambda: patience.app, clock=clock),
        version=__version__,
        limiter=Limiter(rate_policy(settings), quota=quota, clock=clock),
        privacy_of=lambda app: privacy(app, settings),
        models_of=models_of,
        export_of=lambda app, run, tenant: export_run(app, settings, run, tenant=tenant),
        upload_bytes=settings.inputs.max_file_bytes,
        request_timeout_s=settings.server.request_timeout_s,
        settings_of=lambda: [SettingShown(key=s.key, value=s.value, source=s.source) for s in explain(settings)],
    )


def rate_policy(settings: Settings) -> RatePolicy:
    """How often the API may be asked."""
    wanted = settings.rates
    return RatePolicy(
        credential=_rate(wanted.key_per_minute),
        tenant=_rate(wanted.tenant_per_minute),
        refusals=_rate(wanted.refusals_per_minute),
        routes={route: per_minute(amount) for route, amount in wanted.routes.items()},
        concurrent=wanted.concurrent,
    )


def _rate(amount: float | None) -> Rate | None:
    return None if amount is None else per_minute(amount)
