# Stands in for postgres:18, as far as deploy/compose.yaml uses it: the same variables, folders, account and programs.
FROM concierge-test-debian
ENV PATH=/usr/local/bin:/usr/lib/postgresql/18/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/18/docker
COPY postgres /usr/lib/postgresql/18
COPY docker-entrypoint.sh pg_isready /usr/local/bin/
RUN /usr/sbin/useradd --uid 999 --home-dir /var/lib/postgresql postgres && chmod +x /usr/local/bin/*
VOLUME /var/lib/postgresql
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
