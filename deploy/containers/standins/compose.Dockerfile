# Compose 2 as a plugin, for machines whose own packages have none; the program is copied out.
FROM amends-standin/debian
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker-compose \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
