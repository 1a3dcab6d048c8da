# Stands in for node:24-slim: Debian, Node and npm where the official image has them, the account 1000, and the authorities that this
# machine trusts, so that npm reaches its registry from here.
FROM concierge-test-debian
ENV PATH=/usr/local/bin:/usr/bin:/bin NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
COPY ca-certificates.crt /etc/ssl/certs/
COPY npm /usr/local/lib/node_modules/npm
COPY node /usr/local/bin/
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && /usr/sbin/useradd --uid 1000 --create-home node
