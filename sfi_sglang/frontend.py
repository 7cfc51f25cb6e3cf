"""`import sfi_sglang.frontend` adds `sfi=` to SGLang's frontend language (api/frontend.py) in this process."""

from sfi_sglang.api.frontend import install

install()
