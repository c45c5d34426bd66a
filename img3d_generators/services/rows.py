# SPDX-License-Identifier: Apache-2.0
"""The services. A new one consists of a file in adapters/ and a row here.

Prices are from the services' own pages in 2026. They change; the pages are authoritative.
"""

from __future__ import annotations

from img3d_generators.services.registry import Service

ROWS = (
    Service(
        name="meshy",
        title="Meshy",
        adapter="meshy:Meshy",
        base_url="https://api.meshy.ai",
        keys=("MESHY_API_KEY",),
        key_page="https://www.meshy.ai/settings/api",
        terms="https://www.meshy.ai/terms-of-use",
        prices="https://docs.meshy.ai/en/api/pricing",
        price="meshy-6: 20 credits, with texture 30; meshy-5: 5, with texture 15; a text: 20, and 10 for the texture",
        max_pictures=4,
    ),
    Service(
        name="csm",
        title="CSM",
        adapter="csm:Csm",
        base_url="https://api.csm.ai",
        keys=("CSM_API_KEY",),
        key_page="https://3d.csm.ai",
        terms="https://www.csm.ai/terms-of-use",
        prices="https://www.csm.ai/pricing",
        price="not documented: see the page",
        max_pictures=4,
        caution="CSM was reported sold to Google DeepMind in January 2026; its API may have ended",
    ),
    Service(
        name="tripo",
        title="Tripo",
        adapter="tripo:Tripo",
        base_url="https://openapi.tripo3d.ai/v3",
        keys=("TRIPO_API_KEY",),
        key_page="https://platform.tripo3d.ai/api-keys",
        terms="https://www.tripo3d.ai/terms",
        prices="https://platform.tripo3d.ai/docs/billing",
        price="20 to 30 credits of $0.01 a picture, 10 to 20 a text, 30 for Gaussians",
        max_pictures=4,
        gives=("Mesh", "Gaussians"),
    ),
    Service(
        name="stability",
        title="Stability AI",
        adapter="stability:Stability",
        base_url="https://api.stability.ai",
        keys=("STABILITY_API_KEY",),
        key_page="https://platform.stability.ai/account/keys",
        terms="https://platform.stability.ai/legal/terms-of-service",
        prices="https://platform.stability.ai/pricing",
        price="stable-fast-3d: 10 credits of $0.01; stable-point-aware-3d: see the page",
        max_pictures=1,
        takes_text=False,
    ),
    Service(
        name="fal",
        title="fal",
        adapter="fal:Fal",
        base_url="https://queue.fal.run",
        keys=("FAL_KEY",),
        key_page="https://fal.ai/dashboard/keys",
        terms="https://fal.ai/terms",
        prices="https://fal.ai/pricing",
        price="depends on the model, whose page gives it; fal-ai/trellis: $0.02",
        max_pictures=4,
    ),
    Service(
        name="rodin",
        title="Rodin",
        adapter="rodin:Rodin",
        base_url="https://api.hyper3d.com",
        keys=("HYPER3D_API_KEY", "RODIN_API_KEY"),
        key_page="https://hyper3d.ai/api-dashboard",
        terms="https://hyper3d.ai/legal/terms",
        prices="https://developer.hyper3d.ai",
        price="0.5 credits, with HighPack 1.5",
        max_pictures=5,
    ),
)
