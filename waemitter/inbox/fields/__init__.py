"""What Meta tells beside messages and statuses: of templates, numbers, accounts, people's wishes and colleagues on the phone.

`reading` turns it into `effects` (both pure), `apply` acts on them, `store` holds the statements.
"""
