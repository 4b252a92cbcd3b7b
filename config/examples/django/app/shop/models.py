from django.db import models
from django_prometheus.models import ExportModelOperationsMixin


class Order(ExportModelOperationsMixin("order"), models.Model):
    item = models.CharField(max_length=100)
    made = models.DateTimeField(auto_now_add=True)
