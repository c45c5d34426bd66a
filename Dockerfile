# img3d with all that its commands need, for a CPU; FBX files also need Blender (the extra fbx):
#
#     docker build --tag img3d .
#     docker run --rm --volume "$PWD:/data" img3d ns-train img3d-splat --data my_photos --vis tensorboard
#     docker run --rm --publish 7010:7010 --volume "$PWD:/data" img3d img3d-studio --host 0.0.0.0 --token CHOOSE-ONE
FROM debian:12-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends \
        g++ make npm python3-dev python3-venv libgl1 libx11-6 libgomp1
COPY . /src
RUN python3 -m venv /opt/img3d \
    && /opt/img3d/bin/pip install --no-cache-dir --constraint /src/constraints.txt "/src[background,batch,nerfstudio,remote,studio]"

FROM debian:12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 libgl1 libx11-6 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/img3d /opt/img3d
ENV PATH=/opt/img3d/bin:$PATH
WORKDIR /data
CMD ["img3d-studio", "--host", "0.0.0.0"]
