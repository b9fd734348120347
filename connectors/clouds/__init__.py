"""What the services of one cloud have in common, one module a cloud: settings of credentials, the words of its errors.

Rule: pure; a cloud knows the words, `common` and `credentials`, and no kind. Credentials are only named here, in
`ports.Auth`: the transport finds, renews and adds them (`transport.vendors`).
"""

from __future__ import annotations
