"""The page. Each word in TABS names demos/<word>.py, genkit/<word>/, weights/<word>/ and tests/test_<word>.py."""

TABS = ("gan", "vae", "diffusion", "text")
