import os
import sys

import torch

from tests.bench import crowd, diffusion, gallery, gan, page, text, vae

PARTS = {"gallery": gallery, "page": page, "gan": gan, "crowd": crowd, "vae": vae, "diffusion": diffusion, "text": text}
ASKED = {
    (): ("gallery", "page", "gan", "vae", "diffusion", "text", "crowd"),
    ("page",): ("page",),
    ("gan",): ("gan", "crowd"),
    ("vae",): ("vae",),
    ("diffusion",): ("diffusion",),
    ("text",): ("text",),
}

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
if tuple(sys.argv[1:]) not in ASKED:
    sys.exit("usage: python -m tests.bench [page | gan | vae | diffusion | text]")
for name in ASKED[tuple(sys.argv[1:])]:
    PARTS[name].run()
