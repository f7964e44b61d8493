#!/bin/sh
# Takes healer out of the way of discovery first, then removes the rest of this component.
# Every argument goes to kubectl: ./uninstall.sh --context staging
# APIServices that another adapter has taken over meanwhile are left alone.
set -eu

for service in v1beta1.external.metrics.k8s.io v1beta1.custom.metrics.k8s.io v1beta2.custom.metrics.k8s.io; do
  owner=$(kubectl "$@" get apiservice "$service" --ignore-not-found \
    -o 'jsonpath={.spec.service.namespace}/{.spec.service.name}')
  case $owner in
    healer/healer-metrics) kubectl "$@" delete apiservice "$service" --ignore-not-found ;;
    '') ;;
    *) echo "apiservice $service belongs to $owner and stays" ;;
  esac
done
kubectl "$@" -n healer delete service/healer-metrics networkpolicy/healer-metrics --ignore-not-found
kubectl "$@" -n kube-system delete rolebinding/healer-metrics-authentication --ignore-not-found
kubectl "$@" delete clusterrolebinding/healer-metrics clusterrole/healer-metrics --ignore-not-found
echo "Now take components/metrics out of your overlay and apply it, so that the port is closed too."
