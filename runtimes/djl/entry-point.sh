#!/bin/sh
# As the upstream image's: `serve`, and what the environment says. JAVA_OPTS is split into words on purpose.
[ "$1" = serve ] && shift
# shellcheck disable=SC2086
exec java ${JAVA_OPTS:-} -Dlog4j.configurationFile=/opt/djl/conf/log4j2-console.xml -cp '/opt/djl/lib/*:/opt/djl/jars/*' \
  ai.djl.serving.ModelServer "$@"
