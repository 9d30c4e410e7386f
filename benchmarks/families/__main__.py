# SPDX-License-Identifier: Apache-2.0
from families import PACKAGES

print("\n".join(PACKAGES))
