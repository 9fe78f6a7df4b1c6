"""Application services: bridges and bots that run beside the server and act for many users.

types         a service as it is known here, and what it covers
registration  reading and checking registration files
registry      all services of this process: files and database, and who is told when they change
entries       the log entry by which every process learns of a change
interest      which services an entry of the log concerns: a projection
client        asking a service over HTTP
content       what a transaction says
delivery      transactions: in order, once per id, tried again until they are taken
queries       users and aliases that a service is asked for before somebody is told that there are none
networks      third-party networks, put together from all services that speak a protocol
checks        what others may not name
figures       metrics and health

spec: application-service-api/
"""
