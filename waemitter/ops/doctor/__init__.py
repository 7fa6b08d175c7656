"""What a newcomer gets wrong, looked at one by one; nothing of it needs anything else to be right.

finding     what was found, and what to do about it
database    connection, schema, rights, triggers, clock, LISTEN, pooler
meta        token, phone number id, whether the number may send
chatwoot    whether the token is good, and each inbox there
agents      whether each model's endpoint answers, and takes the key
door        the own address: the port, Meta's handshake, signed and unsigned webhooks
examination the order of all this
"""

from waemitter.ops.doctor.examination import examine
from waemitter.ops.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
