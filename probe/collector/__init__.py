"""The far end: a server outside of the sandbox that proves arrival. It knows no policy and no plan.

store, schema           the arrivals on disk
desk                    recognises tokens, commits arrivals in groups, counts the unknown
ratelimit, halves       how often strangers are answered; half-open SYNs (in memory, bounded)
names, dnswire          what the zone answers; DNS messages as bytes (pure)
datagrams               UDP listeners
streams, conversation   TCP listeners: what is spoken is recognised by its first bytes
line                    one TCP connection, in the clear or under TLS
hello, web              TLS hellos; HTTP and DNS over HTTPS (pure)
listening, halfopen     sockets; half-open SYNs as the kernel lists them
state, certificate      the folder with secrets; the TLS certificate
api, serve              the controller's HTTPS API; everything put together
"""
