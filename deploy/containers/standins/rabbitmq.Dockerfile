# As the image rabbitmq:4.2 is for what deploy/compose.yaml asks of it. Debian's own scripts want to be root; the
# server's do not.
FROM amends-standin/debian
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends rabbitmq-server \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /etc/rabbitmq/* /var/lib/rabbitmq/.erlang.cookie \
    && install -d -o rabbitmq -g rabbitmq -m 777 /etc/rabbitmq/conf.d \
    && install -d -o rabbitmq -g rabbitmq -m 777 /var/log/rabbitmq \
    && ln -s /usr/lib/rabbitmq/lib/rabbitmq_server-* /opt/rabbitmq \
    && printf 'loopback_users.guest = false\nlog.console = true\n' >/etc/rabbitmq/conf.d/10-defaults.conf
ENV PATH=/opt/rabbitmq/sbin:/usr/local/bin:/usr/bin:/bin HOME=/var/lib/rabbitmq LANG=C.UTF-8 \
    RUNNING_UNDER_SYSTEMD=true
VOLUME /var/lib/rabbitmq
CMD ["rabbitmq-server"]
