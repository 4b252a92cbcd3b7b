from django.urls import include, path

from shop import views

urlpatterns = [
    path("", include("django_prometheus.urls")),
    path("orders/", views.orders, name="orders"),
    path("orders/<int:number>/", views.order, name="order"),
    path("fail/", views.fail, name="fail"),
]
